"""Errors of ILSVRC's single-object localization task.

Russakovsky et al., IJCV 2015, arXiv 1409.0575, section 4.
"""

import numpy as np

from .box_iou import box_iou

GUESSES = 5
IOU = 0.5


def top_k_error(ranking: np.ndarray, label: int, k: int) -> bool:
    """Whether a class is not among the first of a ranking.

    Args:
        ranking (np.ndarray): (K, ) int, classes, the likeliest first.
        label (int): the true one.
        k (int): how many count.
    """
    return label not in np.asarray(ranking)[:k]


def cls_loc_error(
    labels: np.ndarray, boxes: np.ndarray, label: int, truth: np.ndarray, k: int = GUESSES
) -> bool:
    """Whether no guess has both the class and a box of it.

    Args:
        labels (np.ndarray): (N, ) int, of the guesses, the best first.
        boxes (np.ndarray): (N, 4), theirs, x1, y1, x2, y2, px, both corners
            inside.
        label (int): the true class.
        truth (np.ndarray): (M, 4), its boxes.
        k (int): how many guesses count.

    Raises:
        ValueError: if there are not as many boxes as labels.
    """
    labels, boxes = np.asarray(labels), np.asarray(boxes).reshape(-1, 4)
    if len(labels) != len(boxes):
        raise ValueError(f'cls_loc_error: {len(labels)} labels with {len(boxes)} boxes')
    return not is_localized(boxes[:k][labels[:k] == label], truth)


def is_localized(boxes: np.ndarray, truth: np.ndarray) -> bool:
    """Whether a box overlaps with a true one by an IoU of 0.5 or more.

    Args:
        boxes (np.ndarray): (N, 4), x1, y1, x2, y2, px, both corners inside.
        truth (np.ndarray): (M, 4).
    """
    return bool((box_iou(boxes, truth) >= IOU).any())
