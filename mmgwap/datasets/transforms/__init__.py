from .drop_degenerate_boxes import DropDegenerateBoxes
from .pack_partial_inputs import (
    PackPartialInputs,
    PackTeacherView,
    pack_image_labels,
    without_boxes,
)

__all__ = [
    'DropDegenerateBoxes',
    'PackPartialInputs',
    'PackTeacherView',
    'pack_image_labels',
    'without_boxes',
]
