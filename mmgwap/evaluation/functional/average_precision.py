"""Average precision of image-level scores, and pixel average precision of score maps.

PxAP: Choe et al., CVPR 2020, and the authors' released evaluation.
"""

from collections.abc import Sequence
from typing import Optional

import cv2
import numpy as np

from mmgwap.localization import normalize_map

from .max_box_acc import score_thresholds

IGNORED = 255


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Average the precision over the recall, without interpolation.

    The result is ``sum_n (R_n - R_{n-1}) P_n`` over the distinct scores by falling score. Entries
    with equal scores are ranked together, so their order does not matter.

    Args:
        scores (np.ndarray): (N, ).
        positive (np.ndarray): (N, ) bool.

    Returns:
        float: value in [0, 1], or NaN if no entry is positive.

    Raises:
        ValueError: if a score is NaN.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, False]))
    1.0
    """
    if np.isnan(scores).any():
        raise ValueError('average_precision: a score is NaN')
    if not positive.any():
        return float('nan')
    order = np.argsort(-scores, kind='stable')
    scores, positive = scores[order], positive[order]
    last = np.append(scores[1:] != scores[:-1], True)
    hits = positive.cumsum()[last]
    precision = hits / (np.flatnonzero(last) + 1)
    recall = hits / hits[-1]
    return float((np.diff(recall, prepend=0) * precision).sum())


def average_precision_of_class(
    scores: np.ndarray, labels: np.ndarray, was_read: np.ndarray
) -> float:
    """Average precision of one class over images with known and unknown labels.

    Args:
        scores (np.ndarray): (N, ), image-level scores of the class.
        labels (np.ndarray): (N, ), 1 present, 0 absent, -1 unknown.
        was_read (np.ndarray): (N, ) bool, False for images that could not be read. Such images
            count as positives that are never found.

    Returns:
        float: value in [0, 1], or NaN if the class is present in no image.
    """
    ranked = was_read & (labels >= 0)
    num_found, num_present = (labels[ranked] == 1).sum(), (labels == 1).sum()
    if num_present and not num_found:
        return 0.0
    value = average_precision(scores[ranked], labels[ranked] == 1)
    return value * float(num_found / num_present) if num_present else value


class PxAP:
    """Average precision of score maps as classifiers of pixels.

    The pixels of all images are ranked together by their quantized scores. The memory does not
    depend on the number of images.

    Args:
        interval (float): width of a quantization step, in (0, 1).
    """

    def __init__(self, interval: float = 0.001) -> None:
        # Scores of 1 have their own bin. The last bin is empty: the curve begins there.
        self.edges = np.append(score_thresholds(interval), [1.0, 2.0, 3.0])
        self._object, self._background = np.zeros((2, len(self.edges) - 1), np.int64)
        self._missing = 0  # object pixels of images without a map
        self.num_images = 0

    def add(self, score_map: np.ndarray, mask: np.ndarray) -> None:
        """Count the pixels of an image.

        Args:
            score_map (np.ndarray): (H, W), finite, of any range.
            mask (np.ndarray): (H, W) uint8: 1 object, 0 background, 255 ignored, see
                :func:`unite_masks`.

        Raises:
            ValueError: if the map is not finite, or the mask has another shape or other values.
        """
        scores = normalize_map(score_map)
        if mask.shape != scores.shape or not np.isin(mask, (0, 1, IGNORED)).all():
            raise ValueError(
                f'PxAP: the mask of a {scores.shape} map must have the same shape and the values '
                f'0, 1 and {IGNORED}, got {mask.shape} with {np.unique(mask)[:5].tolist()}'
            )
        self._object += np.histogram(scores[mask == 1], self.edges)[0]
        self._background += np.histogram(scores[mask == 0], self.edges)[0]
        self.num_images += 1

    def add_missing(self, mask: np.ndarray) -> None:
        """Count an image without a map: no object pixel is found.

        Args:
            mask (np.ndarray): (H, W), as for :meth:`add`.
        """
        self._missing += int((mask == 1).sum())
        self.num_images += 1

    def merge(self, other: 'PxAP') -> None:
        """Add the images of another instance with the same interval."""
        self._object += other._object
        self._background += other._background
        self._missing += other._missing
        self.num_images += other.num_images

    def compute(self) -> dict[str, float]:
        """Compute the result.

        Returns:
            dict: ``px_ap`` in percent, the sum over falling thresholds of precision times the
            increase of recall.

        Raises:
            ValueError: if the masks have no object pixel.
        """
        true = self._object[::-1].cumsum()
        false = self._background[::-1].cumsum()
        total = true[-1] + self._missing
        if not total:
            raise ValueError(f'PxAP: no object pixel in {self.num_images} masks')
        recall = true / total
        # Thresholds above all scores have no pixel, and no increase of recall.
        precision = true / np.maximum(true + false, 1)
        return dict(px_ap=float(100 * (precision[1:] * np.diff(recall)).sum()))


def unite_masks(
    instances: Sequence[np.ndarray], ignore: Optional[np.ndarray], size: tuple
) -> np.ndarray:
    """Unite the masks of all objects of an image.

    Args:
        instances (Sequence[np.ndarray]): (h, w) masks of any sizes, 0 outside of the object.
        ignore (np.ndarray): (h, w) mask, 0 where all objects are annotated; or None.
        size (tuple[int, int]): height and width of the result, resized by nearest neighbor.

    Returns:
        np.ndarray: uint8 of shape ``size``: 1 object, 255 ignored (outside of objects), else 0.
    """
    united = np.zeros(size, np.uint8)
    if ignore is not None:
        united[_resize(ignore, size)] = IGNORED
    for instance in instances:
        united[_resize(instance, size)] = 1
    return united


def _resize(mask: np.ndarray, size: tuple) -> np.ndarray:
    return cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_NEAREST) > 0.5
