from .drop_degenerate_boxes import DropDegenerateBoxes
from .pack_partial_inputs import PackPartialInputs, pack_image_labels, without_boxes

__all__ = ['DropDegenerateBoxes', 'PackPartialInputs', 'pack_image_labels', 'without_boxes']
