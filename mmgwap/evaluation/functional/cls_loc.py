"""IoU of boxes and errors of ILSVRC's single-object localization task.

Boxes are x1, y1, x2, y2 in px with inclusive corners, as in ILSVRC and the WSOL evaluation.
Russakovsky et al., IJCV 2015, arXiv 1409.0575, section 4.
"""

import numpy as np

NUM_GUESSES = 5
IOU_THRESHOLD = 0.5


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compute the IoU of all pairs of boxes, where a box is ``x2 - x1 + 1`` px wide.

    Args:
        boxes (np.ndarray): (N, 4).
        others (np.ndarray): (M, 4).

    Returns:
        np.ndarray: (N, M) float64, in [0, 1].

    >>> box_iou([[0, 0, 9, 9]], [[0, 0, 9, 4]]).tolist()
    [[0.5]]
    """
    boxes, others = np.asarray(boxes, float), np.asarray(others, float)
    x1, y1, x2, y2 = boxes.reshape(-1, 4).T[..., None]
    u1, v1, u2, v2 = others.reshape(-1, 4).T
    width = np.minimum(x2, u2) - np.maximum(x1, u1) + 1
    height = np.minimum(y2, v2) - np.maximum(y1, v1) + 1
    overlap = width.clip(min=0) * height.clip(min=0)
    areas = (x2 - x1 + 1) * (y2 - y1 + 1) + (u2 - u1 + 1) * (v2 - v1 + 1)
    return overlap / (areas - overlap)


def resize_boxes(boxes: np.ndarray, size: tuple[int, int], new_size: tuple[int, int]) -> np.ndarray:
    """Scale boxes to another size of their image, and truncate them to whole pixels.

    Args:
        boxes (np.ndarray): (N, 4), not negative.
        size (tuple[int, int]): height and width of the image.
        new_size (tuple[int, int]): height and width of the resized image.

    Returns:
        np.ndarray: (N, 4) int64.
    """
    (height, width), (new_height, new_width) = size, new_size
    # Multiply first, for the same rounding as in the WSOL evaluation.
    scale = [new_width, new_height, new_width, new_height]
    scaled = np.asarray(boxes, float).reshape(-1, 4) * scale
    return (scaled / [width, height, width, height]).astype(np.int64)


def top_k_error(ranking: np.ndarray, label: int, k: int) -> bool:
    """Return whether a class is not among the first ``k`` classes of a ranking.

    Args:
        ranking (np.ndarray): (K, ) int, classes by falling score.
        label (int): true class.
        k (int): number of guesses.
    """
    return label not in np.asarray(ranking)[:k]


def cls_loc_error(
    labels: np.ndarray, boxes: np.ndarray, label: int, truth: np.ndarray, k: int = NUM_GUESSES
) -> bool:
    """Return whether none of the first ``k`` guesses has the true class and a correct box.

    Args:
        labels (np.ndarray): (N, ) int, classes of the guesses, best guess first.
        boxes (np.ndarray): (N, 4), boxes of the guesses.
        label (int): true class.
        truth (np.ndarray): (M, 4), boxes of the true class.
        k (int): number of guesses.

    Raises:
        ValueError: if ``labels`` and ``boxes`` differ in length.
    """
    labels, boxes = np.asarray(labels), np.asarray(boxes).reshape(-1, 4)
    if len(labels) != len(boxes):
        raise ValueError(f'cls_loc_error: {len(labels)} labels, but {len(boxes)} boxes')
    return not is_localized(boxes[:k][labels[:k] == label], truth)


def is_localized(boxes: np.ndarray, truth: np.ndarray) -> bool:
    """Return whether any box has an IoU of at least 0.5 with any true box.

    Args:
        boxes (np.ndarray): (N, 4).
        truth (np.ndarray): (M, 4).
    """
    return bool((box_iou(boxes, truth) >= IOU_THRESHOLD).any())
