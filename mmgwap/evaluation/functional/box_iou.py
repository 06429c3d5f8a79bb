"""Boxes of inclusive corners, as ILSVRC and the WSOL evaluation have them."""

import numpy as np


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union where the pixels of both corners count.

    A box from x1 to x2 is ``x2 - x1 + 1`` wide.

    Args:
        boxes (np.ndarray): (N, 4), x1, y1, x2, y2, px.
        others (np.ndarray): (M, 4).

    Returns:
        np.ndarray: (N, M) float64, in [0, 1].
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
    """Boxes on an image of another size, cut to whole pixels.

    Args:
        boxes (np.ndarray): (N, 4), x1, y1, x2, y2, px, not negative.
        size (tuple[int, int]): height and width of the image.
        new_size (tuple[int, int]): those it gets.

    Returns:
        np.ndarray: (N, 4) int64.
    """
    (height, width), (new_height, new_width) = size, new_size
    # In this order, for the same rounding as in the WSOL evaluation.
    scaled = np.asarray(boxes, float).reshape(-1, 4) * [
        new_width,
        new_height,
        new_width,
        new_height,
    ]
    return (scaled / [width, height, width, height]).astype(np.int64)
