from .coco import write_coco, write_photographs
from .detectors import DETECTORS, LAST_CHANNELS, tiny_detector, tiny_rfcn, tiny_rfcn_run
from .voc import write_cards, write_voc
from .wsol import write_cub, write_ilsvrc, write_openimages
from .yolo import write_yolo

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
    'write_photographs',
    'write_voc',
    'write_yolo',
]
