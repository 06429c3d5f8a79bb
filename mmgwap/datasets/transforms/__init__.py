from .drop_degenerate_boxes import DropDegenerateBoxes
from .pack_partial_inputs import PackPartialInputs

__all__ = ['DropDegenerateBoxes', 'PackPartialInputs']
