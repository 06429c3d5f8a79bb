from .coco import CheckedCocoDataset
from .image_label import ImageLabelDataset
from .partial_box import PartialBoxDataset
from .samplers import PartialBoxBatchSampler
from .transforms import DropDegenerateBoxes, PackPartialInputs
from .voc import CheckedVOCDataset, CheckedXMLDataset, UnannotatedVOCDataset
from .wsol import WSOLDataset
from .yolo import YOLODataset

__all__ = [
    'CheckedCocoDataset',
    'CheckedVOCDataset',
    'CheckedXMLDataset',
    'DropDegenerateBoxes',
    'ImageLabelDataset',
    'PackPartialInputs',
    'PartialBoxBatchSampler',
    'PartialBoxDataset',
    'UnannotatedVOCDataset',
    'WSOLDataset',
    'YOLODataset',
]
