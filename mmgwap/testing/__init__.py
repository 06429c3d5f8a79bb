from .detectors import DETECTORS, LAST_CHANNELS, tiny_detector
from .miniatures_coco import write_coco
from .miniatures_voc import write_cards, write_voc
from .miniatures_wsol import write_cub, write_ilsvrc, write_openimages
from .tiny import tiny_rfcn, tiny_rfcn_run

__all__ = [
    'DETECTORS',
    'LAST_CHANNELS',
    'tiny_detector',
    'tiny_rfcn',
    'tiny_rfcn_run',
    'write_cards',
    'write_coco',
    'write_cub',
    'write_ilsvrc',
    'write_openimages',
    'write_voc',
]
