"""From a score map to a mask, and from there to boxes."""

import cv2
import numpy as np

WHICH = ('largest', 'all')


def normalize_map(score_map: np.ndarray) -> np.ndarray:
    """Stretch a map to 0 ... 1; a constant one becomes 0.

    Class activation maps have no zero of their own: a softmax of the scores
    stays the same if all of them are raised.

    Args:
        score_map (np.ndarray): (H, W), finite.

    Returns:
        np.ndarray: (H, W), float32 or wider.

    Raises:
        ValueError: if a value is NaN or infinite, or it has not two dimensions.
    """
    score_map = np.asarray(score_map)
    if score_map.ndim != 2 or not np.isfinite(score_map).all():
        raise ValueError(
            'a score map must be (H, W) of finite numbers, got '
            f'{score_map.shape} with '
            f'{int((~np.isfinite(score_map)).sum())} others'
        )
    if score_map.dtype.itemsize < 4 or score_map.dtype.kind != 'f':
        score_map = score_map.astype(np.float32)
    low, high = (score_map.min(), score_map.max()) if score_map.size else (0, 0)
    if low == high:
        return np.zeros_like(score_map)
    with np.errstate(over='ignore'):
        span = high - low
    if np.isfinite(span):
        return (score_map - low) / span
    return (score_map / 2 - low / 2) / (high / 2 - low / 2)


def boxes_from_map(
    score_map: np.ndarray, threshold: float = 0.2, which: str = 'largest'
) -> np.ndarray:
    """Tight boxes around what a map shows.

    The CAM paper's rule (section 3.2): segment the values above 20 % of the
    maximum, and take the box of the largest connected component.  The map is
    normalised before, see :func:`normalize_map`.

    Args:
        score_map (np.ndarray): (H, W).
        threshold (float): share of the maximum, in [0, 1).
        which (str): 'largest', or 'all' components, by falling area.
            Neighbours over a corner are connected.

    Returns:
        np.ndarray: (N, 4) float32, x1, y1, x2, y2 in px, the lower right corner
        outside of the box; none for a constant map.

    Raises:
        ValueError: if ``threshold`` or ``which`` is another, or the map not
            finite.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f'boxes_from_map: threshold must be in [0, 1), got {threshold}')
    if which not in WHICH:
        raise ValueError(f'boxes_from_map: which must be one of {WHICH}, got {which!r}')
    mask = normalize_map(score_map) > threshold
    # The first is the background.
    parts = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)[2][1:]
    parts = parts[np.argsort(-parts[:, cv2.CC_STAT_AREA], kind='stable')]
    left_top, size = parts[:, :2], parts[:, 2:4]
    boxes = np.hstack([left_top, left_top + size]).astype(np.float32)
    return boxes[:1] if which == 'largest' else boxes
