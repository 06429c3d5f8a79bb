from .checked import CheckedCocoDataset, CheckedVOCDataset, CheckedXMLDataset
from .transforms import DropDegenerateBoxes

__all__ = [
    'CheckedCocoDataset', 'CheckedVOCDataset', 'CheckedXMLDataset',
    'DropDegenerateBoxes'
]
