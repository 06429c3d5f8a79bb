"""R-FCN, global weighted average pooling, local importance-based pooling and
partial-box supervision for MMDetection 3.x."""

from .host import check_host
from .version import __version__

check_host()

from .checkpoint import allow_training_state  # noqa: E402

allow_training_state()

__all__ = ['__version__']
