"""From a score map of the network's input to boxes on the image."""

from typing import Optional

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

BOX_CHOICES = ('largest', 'all')
# Reversed axes for each flip direction of mmdet.
FLIP_AXES = dict(horizontal=(-1,), vertical=(-2,), diagonal=(-2, -1))


def resize_maps(
    maps: Tensor,
    padded: tuple[int, int],
    valid: tuple[int, int],
    size: tuple[int, int],
    flip_direction: Optional[str] = None,
) -> Tensor:
    """Resize maps of the network's input to the original image.

    The input is the resized image, padded on the right and at the bottom, and the
    maps cover all of it. The interpolation is bilinear with ``align_corners=False``,
    as in mmdet's resizing.

    Args:
        maps (Tensor): (K, h, w), float.
        padded (tuple[int, int]): height and width of the input
            (``batch_input_shape``).
        valid (tuple[int, int]): height and width of the resized image in the input
            (``img_shape``).
        size (tuple[int, int]): height and width of the original image
            (``ori_shape``).
        flip_direction (str): 'horizontal', 'vertical' or 'diagonal' if the image was
            flipped before padding; the flip is undone.

    Returns:
        Tensor: (K, *size).

    Raises:
        ValueError: if ``valid`` is larger than ``padded``, or ``flip_direction`` is
            unknown.

    Example:
        >>> resize_maps(torch.rand(3, 8, 8), (64, 64), (48, 64), (480, 640)).shape
        torch.Size([3, 480, 640])
    """
    if flip_direction not in (None, *FLIP_AXES):
        raise ValueError(
            f'resize_maps: flip_direction must be one of {tuple(FLIP_AXES)}, got {flip_direction!r}'
        )
    if valid[0] > padded[0] or valid[1] > padded[1]:
        raise ValueError(
            f'resize_maps: the image of {valid} is larger than the padded input of {padded}'
        )
    if not len(maps):  # interpolate does not accept an empty batch
        return maps.new_zeros(0, *size)
    whole = interpolate(maps[None], padded, mode='bilinear', align_corners=False)
    resized = interpolate(
        whole[..., : valid[0], : valid[1]], size, mode='bilinear', align_corners=False
    )[0]
    # Rounding errors would give a constant map a pattern, which normalize_map would
    # stretch to the full range.
    resized = torch.minimum(
        torch.maximum(resized, maps.amin((1, 2), True)), maps.amax((1, 2), True)
    )
    return resized if flip_direction is None else resized.flip(FLIP_AXES[flip_direction])


def normalize_map(score_map: np.ndarray) -> np.ndarray:
    """Scale a map linearly to [0, 1].

    Class activation maps have no natural zero: a softmax over the classes does not
    change if a constant is added to all scores. A constant map becomes 0.

    Args:
        score_map (np.ndarray): (H, W), finite.

    Returns:
        np.ndarray: (H, W), float32, or float64 for a float64 map.

    Raises:
        ValueError: if the map has a NaN or infinite value, or is not 2-dimensional.

    Example:
        >>> normalize_map(np.array([[-2.0, 0.0, 2.0]]))
        array([[0. , 0.5, 1. ]])
    """
    score_map = np.asarray(score_map)
    finite = np.isfinite(score_map)
    if score_map.ndim != 2 or not finite.all():
        raise ValueError(
            'a score map must be a finite array (H, W), got shape '
            f'{score_map.shape} with {int((~finite).sum())} values that are not finite'
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
    """Return tight boxes around the regions of a map above a threshold.

    The rule of the CAM paper (arXiv 1512.04150, section 3.2): segment the values
    above 20 % of the maximum and take the box of the largest connected component.
    The map is normalised first, see :func:`normalize_map`.

    Args:
        score_map (np.ndarray): (H, W).
        threshold (float): fraction of the maximum, in [0, 1).
        which (str): 'largest', or 'all' for all components by decreasing area.
            Diagonal neighbours are connected.

    Returns:
        np.ndarray: (N, 4) float32, (x1, y1, x2, y2) in pixels, where x2 and y2 are
        exclusive. A constant map gives no box.

    Raises:
        ValueError: if an argument is outside its range, or the map is not finite.

    Example:
        >>> score_map = np.zeros((6, 8))
        >>> score_map[1:3, 2:6] = 1
        >>> boxes_from_map(score_map)
        array([[2., 1., 6., 3.]], dtype=float32)
    """
    if not 0 <= threshold < 1:
        raise ValueError(f'boxes_from_map: threshold must be in [0, 1), got {threshold}')
    if which not in BOX_CHOICES:
        raise ValueError(f'boxes_from_map: which must be one of {BOX_CHOICES}, got {which!r}')
    mask = (normalize_map(score_map) > threshold).astype(np.uint8)
    # The first component is the background.
    components = cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:]
    components = components[np.argsort(-components[:, cv2.CC_STAT_AREA], kind='stable')]
    left_top, size = components[:, :2], components[:, 2:4]
    boxes = np.hstack([left_top, left_top + size]).astype(np.float32)
    return boxes[:1] if which == 'largest' else boxes
