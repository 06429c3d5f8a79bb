"""R-FCN, global weighted average pooling, local importance-based pooling and
partial-box supervision for MMDetection 3.x."""

from .host import check_host
from .version import __version__

check_host()

__all__ = ['__version__']
