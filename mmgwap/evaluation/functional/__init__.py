from .average_precision import PxAP, average_precision, average_precision_of_class, unite_masks
from .cls_loc import box_iou, cls_loc_error, is_localized, resize_boxes, top_k_error
from .max_box_acc import MaxBoxAcc
from .submission import (
    SubmissionError,
    check_tested,
    coco_detections,
    coco_submission_name,
    voc_lines,
    write_coco_submission,
    write_voc_submission,
)

__all__ = [
    'MaxBoxAcc',
    'PxAP',
    'SubmissionError',
    'average_precision',
    'average_precision_of_class',
    'box_iou',
    'check_tested',
    'cls_loc_error',
    'coco_detections',
    'coco_submission_name',
    'is_localized',
    'resize_boxes',
    'top_k_error',
    'unite_masks',
    'voc_lines',
    'write_coco_submission',
    'write_voc_submission',
]
