from .detectors import DETECTORS, LAST_CHANNELS, tiny_detector
from .tiny import tiny_rfcn, tiny_rfcn_run

__all__ = [
    'DETECTORS', 'LAST_CHANNELS', 'tiny_detector', 'tiny_rfcn',
    'tiny_rfcn_run'
]
