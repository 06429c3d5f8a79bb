"""Score maps against the ground truth of the WSOL evaluation."""

from collections.abc import Sequence
from typing import Optional

import cv2
import numpy as np

from .functional import MaxBoxAcc, PxAP, resize_boxes
from .wsol_truth import WSOLTruth

SIZE = (224, 224)


class MapSums:
    """What is counted of score maps: MaxBoxAcc with boxes, PxAP with masks.

    Args:
        truth (WSOLTruth): tells which there are.
        size (tuple[int, int]): height and width to measure at; None for those
            of each image.
        interval (float): between thresholds.
        iou_thresholds (Sequence[float]): of MaxBoxAccV2.

    Raises:
        ValueError: if a setting is outside of its range.
    """

    def __init__(
        self,
        truth: WSOLTruth,
        size: Optional[tuple[int, int]] = SIZE,
        interval: float = 0.001,
        iou_thresholds: Sequence[float] = (0.3, 0.5, 0.7),
    ) -> None:
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f'size must be a height and a width, in px, or None, got {size}')
        self.size = size
        self.boxes = MaxBoxAcc(interval, iou_thresholds) if truth.has_boxes else None
        self.pixels = PxAP(interval) if truth.has_masks else None

    def add(
        self,
        truth: WSOLTruth,
        image: str,
        score_map: np.ndarray,
        seen: Optional[tuple[int, int]] = None,
    ) -> None:
        """Count an image.

        Args:
            truth (WSOLTruth): that of the image.
            image (str): its name.
            score_map (np.ndarray): (H, W), over the whole image; one of
                another size is brought to the size of the measurement.
            seen (tuple[int, int]): see :meth:`WSOLTruth.image_size`.

        Raises:
            ValueError: with the image's name, if the map is not finite, or the
                size of the image not known.
        """
        whole = truth.image_size(image, seen) if self.boxes or not self.size else None
        size = self.size or whole
        try:
            score_map = resize_map(score_map, size)
            if self.boxes:
                self.boxes.add(score_map, resize_boxes(truth.metadata.boxes[image], whole, size))
            if self.pixels:
                self.pixels.add(score_map, truth.mask(image, size))
        except ValueError as error:
            raise ValueError(f'{image}: {error}') from None

    def miss(self, truth: WSOLTruth, image: str) -> None:
        """Count an image without a map, of which nothing is found.

        Raises:
            ValueError: with the image's name, if its size is needed and not
                known.
        """
        if self.boxes:
            self.boxes.miss()
        if self.pixels:
            self.pixels.miss(truth.mask(image, self.size or truth.image_size(image)))

    def merge(self, other: 'MapSums') -> None:
        """Count the images of another one, of the same settings, too."""
        for mine, its in ((self.boxes, other.boxes), (self.pixels, other.pixels)):
            if mine:
                mine.merge(its)

    def compute(self) -> dict[str, float]:
        """Results of :class:`MaxBoxAcc` and :class:`PxAP`."""
        return {
            **(self.boxes.compute() if self.boxes else {}),
            **(self.pixels.compute() if self.pixels else {}),
        }


def resize_map(score_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, as :func:`mmgwap.localization.resize_maps`.

    The WSOL evaluation's own maps come at its size and stay as they are.

    Args:
        score_map (np.ndarray): (H, W).
        size (tuple[int, int]): height and width wanted.

    Returns:
        np.ndarray: ``size``.

    Raises:
        ValueError: if it has not two dimensions, or not finite numbers.
    """
    if score_map.ndim != 2 or not score_map.size or score_map.dtype.kind not in 'fiu':
        raise ValueError(
            f'a score map must be (H, W) of numbers, got {score_map.shape} {score_map.dtype}'
        )
    if not np.isfinite(score_map).all():
        raise ValueError(
            f'{int((~np.isfinite(score_map)).sum())} values of the score map are NaN or infinite'
        )
    if score_map.shape == tuple(size):
        return score_map
    if score_map.dtype not in (np.float32, np.float64):
        score_map = score_map.astype(np.float32)
    return cv2.resize(score_map, tuple(size)[::-1], interpolation=cv2.INTER_LINEAR)
