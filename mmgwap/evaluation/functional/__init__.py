from .average_precision import average_precision
from .box_iou import box_iou, resize_boxes
from .cls_loc import cls_loc_error, is_localized, top_k_error
from .coco_submission import (
    check_coco_results,
    coco_detections,
    coco_submission_name,
    write_coco_results,
    zip_coco_results,
)
from .max_box_acc import MaxBoxAcc
from .px_ap import PxAP, unite_masks
from .submission import SubmissionError, check_tested
from .voc_submission import check_voc_results, pack_voc_results, voc_lines, write_voc_results

__all__ = [
    'MaxBoxAcc',
    'PxAP',
    'SubmissionError',
    'average_precision',
    'box_iou',
    'check_coco_results',
    'check_tested',
    'check_voc_results',
    'cls_loc_error',
    'coco_detections',
    'coco_submission_name',
    'is_localized',
    'pack_voc_results',
    'resize_boxes',
    'top_k_error',
    'unite_masks',
    'voc_lines',
    'write_coco_results',
    'write_voc_results',
    'zip_coco_results',
]
