"""Maximal box accuracy (MaxBoxAcc) of score maps.

Choe et al., *Evaluating Weakly Supervised Object Localization Methods Right*, CVPR 2020. V2 and
the contours are those of the authors' released evaluation.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from mmgwap.localization import normalize_map

from .cls_loc import box_iou

V1_IOU = 0.5


def score_thresholds(interval: float) -> np.ndarray:
    """Return 0, interval, 2 * interval, ... below 1.

    Raises:
        ValueError: if ``interval`` is not in (0, 1).
    """
    if not 0 < interval < 1:
        raise ValueError(f'interval must be in (0, 1), got {interval}')
    thresholds = np.arange(0, 1, interval)
    return thresholds[thresholds < 1]  # rounding may add the value 1


class MaxBoxAcc:
    """Share of images with a correct box at the best threshold.

    A map is scaled to 0 ... 255. A threshold ``t`` keeps the pixels above ``int(255 * t)``. Their
    outer and inner contours give boxes ``x, y, x + w, y + h``, clipped to ``W - 1``, ``H - 1`` and
    compared with the boxes of the image by :func:`box_iou`. A threshold without pixels gives the
    box 0, 0, 0, 0. V1 uses the contour with the largest area (the first of equal areas) and an IoU
    of 0.5. V2 uses any contour, and averages over several IoU thresholds, each at its own best
    threshold of the map.

    The memory does not depend on the number of images.

    Args:
        interval (float): interval between thresholds of the map, in (0, 1).
        iou_thresholds (Sequence[float]): IoU thresholds of V2, in (0, 1].

    Raises:
        ValueError: if an argument is outside of its range.
    """

    def __init__(
        self, interval: float = 0.001, iou_thresholds: Sequence[float] = (0.3, 0.5, 0.7)
    ) -> None:
        if not len(iou_thresholds) or not all(0 < iou <= 1 for iou in iou_thresholds):
            raise ValueError(f'iou_thresholds must be in (0, 1], got {iou_thresholds}')
        self.thresholds = score_thresholds(interval)
        self.iou_thresholds = tuple(iou_thresholds)
        # Thresholds with the same level in 0 ... 255 give the same mask.
        self.levels, self._level_of = np.unique(
            (self.thresholds * 255).astype(int), return_inverse=True
        )
        self._hits = np.zeros(len(self.levels), np.int64)
        self._wanted = np.array(self.iou_thresholds)[:, None]
        self._hits_v2 = np.zeros((len(self._wanted), len(self.levels)), np.int64)
        self.num_images = 0

    def add(self, score_map: np.ndarray, boxes: np.ndarray) -> None:
        """Count the boxes of an image.

        Args:
            score_map (np.ndarray): (H, W), finite, of any range.
            boxes (np.ndarray): (N, 4), N > 0, x1, y1, x2, y2 in px of the map, inclusive corners.

        Raises:
            ValueError: if the map is not finite, or ``boxes`` is empty.
        """
        if not len(boxes):
            raise ValueError('MaxBoxAcc: boxes are empty, an image needs at least 1 box')
        image = (normalize_map(score_map) * 255).astype(np.uint8)
        boxes = np.asarray(boxes, float)
        single, best, mask_of = _ious_by_level(
            image, self.levels, boxes, min(V1_IOU, *self.iou_thresholds)
        )
        self._hits += (single >= V1_IOU)[mask_of]
        self._hits_v2 += (best >= self._wanted)[:, mask_of]
        self.num_images += 1

    def add_missing(self) -> None:
        """Count an image without a map: its boxes are not found."""
        self.num_images += 1

    def merge(self, other: 'MaxBoxAcc') -> None:
        """Add the images of another instance with the same settings."""
        self._hits += other._hits
        self._hits_v2 += other._hits_v2
        self.num_images += other.num_images

    def compute(self) -> dict[str, float]:
        """Compute the results.

        Returns:
            dict: in percent, ``max_box_acc`` (V1), ``max_box_acc_v2`` and its parts, such as
            ``max_box_acc_v2_50`` for an IoU of 0.5. In [0, 1), ``max_box_acc_threshold``, the best
            threshold of V1 (the lowest of equally good thresholds).

        Raises:
            ValueError: if no image was added.
        """
        if not self.num_images:
            raise ValueError('MaxBoxAcc: no image was added')
        # The lowest threshold of a level is its first.
        best = self.thresholds[np.argmax(self._hits[self._level_of])]
        shares = 100 * self._hits_v2.max(axis=1) / self.num_images
        return dict(
            max_box_acc=100 * float(self._hits.max()) / self.num_images,
            max_box_acc_threshold=float(best),
            max_box_acc_v2=float(shares.mean()),
            **{
                f'max_box_acc_v2_{round(100 * iou)}': float(share)
                for iou, share in zip(self.iou_thresholds, shares)
            },
        )


def _ious_by_level(
    image: np.ndarray, levels: np.ndarray, truth: np.ndarray, min_iou: float
) -> tuple:
    """Compute the IoUs of the contours above each level.

    Args:
        image (np.ndarray): (H, W) uint8.
        levels (np.ndarray): (L, ), increasing.
        truth (np.ndarray): (M, 4).
        min_iou (float): smaller IoUs may be returned as 0.

    Returns:
        tuple: for each of N distinct masks, (N, ), the IoU of the largest contour and the best
        IoU of all contours; and the index of the mask of each level, (L, ).
    """
    # Levels without a pixel between them have the same mask.
    below = np.bincount(image.ravel(), minlength=256).cumsum()[levels]
    _, first, mask_of = np.unique(below, return_index=True, return_inverse=True)
    boxes, starts, largest, true_boxes = [], [], [], truth.tolist()
    for contours in _contours(image, levels[first]):
        areas = [cv2.contourArea(contour) for contour in contours] if len(contours) > 1 else [0]
        found = [cv2.boundingRect(contour) for contour in contours] or [(0, 0, 0, 0)]
        starts.append(len(boxes))
        largest.append(len(boxes) + areas.index(max(areas)))
        boxes += found
        if not _reaches(found, true_boxes, min_iou):
            break
    boxes = np.array(boxes)
    boxes[:, 2:] += boxes[:, :2]
    height, width = image.shape
    np.minimum(boxes[:, 2:], [width - 1, height - 1], out=boxes[:, 2:])
    ious = box_iou(boxes, truth).max(axis=1)
    single, best = np.zeros((2, len(first)))
    single[: len(starts)] = ious[largest]
    best[: len(starts)] = np.maximum.reduceat(ious, starts)
    return single, best, mask_of


def _reaches(boxes: list[tuple], truth: list[list], min_iou: float) -> bool:
    """Return whether a box, or any box inside of it, can have the IoU ``min_iou``.

    The masks of higher levels lie inside of the contours of this mask. Their boxes cannot cover
    more of a true box, and the IoU is at most the covered share.
    """
    return any(
        max(min(x + w, x2) - max(x, x1) + 1, 0)
        * max(min(y + h, y2) - max(y, y1) + 1, 0)
        / ((x2 - x1 + 1) * (y2 - y1 + 1))
        >= min_iou
        for x, y, w, h in boxes
        for x1, y1, x2, y2 in truth
    )


def _contours(image: np.ndarray, levels: np.ndarray) -> Iterator[Sequence[np.ndarray]]:
    """Yield the contours above each level."""
    # Only the part of the image with pixels above the level is searched.
    extents = zip(_extents(image.max(axis=1), levels), _extents(image.max(axis=0), levels))
    # A level of a numpy type would make numpy convert the image to a wider dtype.
    for level, ((top, bottom), (left, right)) in zip(levels.tolist(), extents):
        mask = image[top:bottom, left:right] > level
        yield cv2.findContours(
            mask.view(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top)
        )[-2]


def _extents(peaks: np.ndarray, levels: np.ndarray) -> list[list[int]]:
    """Return for each level the first line above it and the end of the last line above it.

    The extent of a level without lines above it is the whole range.
    """
    above = peaks > levels[:, None]
    ends = len(peaks) - above[:, ::-1].argmax(axis=1)
    return np.stack([above.argmax(axis=1), ends], axis=1).tolist()
