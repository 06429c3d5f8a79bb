"""Boxes that nothing can be learnt from.

A box without area makes the log in the box coder infinite, and the loss NaN a
step later, without a word.
"""

import numpy as np

WHAT = 'without area, inverted, not finite, huge or outside of the image'
HUGE = 2**24  # px; float32 has no whole pixels from here on


def is_degenerate(
    boxes: np.ndarray, width: float, height: float, min_size: float = 0
) -> np.ndarray:
    """Which boxes have no area, are inverted, not finite, huge or off the
    image.

    Args:
        boxes (np.ndarray): (N, 4), rows of (x1, y1, x2, y2) in pixels.
        width, height (float): of the image; infinite if unknown.
        min_size (float): smallest side to keep; the default is any above 0.

    Returns:
        np.ndarray: (N,), bool.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    x1, y1, x2, y2 = boxes.T
    with np.errstate(invalid='ignore'):
        sides = np.minimum(x2 - x1, y2 - y1)
        inside = (x2 > 0) & (y2 > 0) & (x1 < width) & (y1 < height)
        good = inside & (sides > 0) & (sides >= min_size)
        good &= (np.abs(boxes) < HUGE).all(axis=1)
    return ~good
