from .average_precision import average_precision
from .box_iou import box_iou, resize_boxes
from .cls_loc import cls_loc_error, is_localized, top_k_error
from .max_box_acc import MaxBoxAcc
from .px_ap import PxAP, unite_masks

__all__ = [
    'MaxBoxAcc', 'PxAP', 'average_precision', 'box_iou', 'cls_loc_error',
    'is_localized', 'resize_boxes', 'top_k_error', 'unite_masks'
]
