"""Pixel average precision of score maps.

Choe et al., CVPR 2020, and the authors' released evaluation.
"""

from collections.abc import Sequence
from typing import Optional

import cv2
import numpy as np

from mmgwap.localization import normalize_map

from .max_box_acc import score_thresholds

IGNORED = 255


class PxAP:
    """Average precision of score maps as classifiers of pixels.

    The pixels of all images are ranked together, by their scores in steps.
    What it keeps does not depend on the number of images.

    Args:
        interval (float): width of a step, in (0, 1).
    """

    def __init__(self, interval: float = 0.001) -> None:
        # The scores of 1 have a step of their own; the last one stays empty,
        # where the curve begins.
        self.edges = np.append(score_thresholds(interval), [1.0, 2.0, 3.0])
        self._object, self._background = np.zeros((2, len(self.edges) - 1), np.int64)
        self._missed = 0  # pixels of objects in images without a map
        self.num_images = 0

    def add(self, score_map: np.ndarray, mask: np.ndarray) -> None:
        """Count an image.

        Args:
            score_map (np.ndarray): (H, W), finite, of any range.
            mask (np.ndarray): (H, W) uint8: 1 object, 0 background, 255
                ignored; see :func:`unite_masks`.

        Raises:
            ValueError: if the map is not finite, or the mask is of another
                size or has other values.
        """
        scores = normalize_map(score_map)
        if mask.shape != scores.shape or not np.isin(mask, (0, 1, IGNORED)).all():
            raise ValueError(
                f'PxAP: a map of {scores.shape} needs a mask of that shape '
                f'with 0, 1 and {IGNORED}, got {mask.shape} with '
                f'{np.unique(mask)[:5].tolist()}'
            )
        self._object += np.histogram(scores[mask == 1], self.edges)[0]
        self._background += np.histogram(scores[mask == 0], self.edges)[0]
        self.num_images += 1

    def miss(self, mask: np.ndarray) -> None:
        """Count an image without a map: its objects are not found.

        Args:
            mask (np.ndarray): (H, W), as for :meth:`add`.
        """
        self._missed += int((mask == 1).sum())
        self.num_images += 1

    def merge(self, other: 'PxAP') -> None:
        """Count the images of another one, of the same interval, too."""
        self._object += other._object
        self._background += other._background
        self._missed += other._missed
        self.num_images += other.num_images

    def compute(self) -> dict[str, float]:
        """The result.

        Returns:
            dict: ``px_ap``, in percent: the sum of the precision times the
            step of the recall over the falling thresholds.

        Raises:
            ValueError: if no pixel of an object was added.
        """
        true = self._object[::-1].cumsum()
        false = self._background[::-1].cumsum()
        every = true[-1] + self._missed
        if not every:
            raise ValueError(f'PxAP: no pixel of an object in {self.num_images} masks')
        recall = true / every
        # Where no pixel was taken yet there is no step either.
        precision = true / np.maximum(true + false, 1)
        return dict(px_ap=float(100 * (precision[1:] * np.diff(recall)).sum()))


def unite_masks(
    instances: Sequence[np.ndarray], ignore: Optional[np.ndarray], size: tuple
) -> np.ndarray:
    """One mask of all objects of an image.

    Args:
        instances (Sequence[np.ndarray]): (h, w) grey values, 0 where the
            object is not; of any sizes.
        ignore (np.ndarray): (h, w), 0 where every object is known; or None.
        size (tuple[int, int]): height and width of the result; values are
            those of the nearest pixels.

    Returns:
        np.ndarray: ``size``, uint8: 1 object, 255 ignored and no object, 0.
    """
    united = np.zeros(size, np.uint8)
    if ignore is not None:
        united[_resize(ignore, size)] = IGNORED
    for instance in instances:
        united[_resize(instance, size)] = 1
    return united


def _resize(mask: np.ndarray, size: tuple) -> np.ndarray:
    return cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_NEAREST) > 0.5
