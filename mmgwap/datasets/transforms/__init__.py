from .drop_degenerate_boxes import DropDegenerateBoxes

__all__ = ['DropDegenerateBoxes']
