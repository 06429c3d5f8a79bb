"""Ground truth in the layout of the WSOL evaluation, and score maps measured against it."""

from collections.abc import Sequence
from typing import Optional

import cv2
import numpy as np
from mmengine.fileio import get, isfile, join_path

from mmgwap.datasets.wsol_metadata import read_wsol_metadata

from .functional import MaxBoxAcc, PxAP, resize_boxes, unite_masks

SIZE = (224, 224)


class WSOLGroundTruth:
    """Classes, boxes and masks of a split.

    Args:
        root (str): folder of the metadata.
        mask_root (str): folder of the masks; '' to leave masks out.
        backend_args (dict): arguments of mmengine's file backend for metadata and masks.

    Attributes:
        metadata (WSOLMetadata): content of the metadata files.
        has_boxes (bool): whether all images have boxes; else no image has.
        has_masks (bool): whether all images have masks; else no image has.
        left_out (list[str]): measures that lack ground truth, with the reason.

    Raises:
        FileNotFoundError: if the metadata or a mask is missing.
        ValueError: if the metadata is invalid, or only a part of the images has boxes or masks.
    """

    def __init__(self, root: str, mask_root: str = '', backend_args: Optional[dict] = None) -> None:
        self.root, self.mask_root, self.backend_args = root, mask_root, backend_args
        self.metadata = read_wsol_metadata(root, backend_args)
        self.has_boxes = self._have_all_images('boxes', self.metadata.boxes)
        self.has_masks = self._have_all_images('masks', self.metadata.masks) and bool(mask_root)
        self.left_out = self._find_left_out()
        if self.has_masks:
            self._check_masks_exist()

    def label(self, image: str) -> int:
        """Return the class of an image; raise ValueError if the image is not in the split."""
        if image not in self.metadata.labels:
            raise ValueError(f'image {image!r} is not in image_ids.txt of {self.root}')
        return self.metadata.labels[image]

    def image_size(
        self, image: str, read_size: Optional[tuple[int, int]] = None
    ) -> tuple[int, int]:
        """Return height and width of an image.

        Args:
            image (str): name of the image.
            read_size (tuple[int, int]): height and width of the image file if it was read.

        Raises:
            ValueError: if the size is not known, or the file and the metadata disagree.
        """
        listed = self.metadata.sizes.get(image)
        if listed is None and read_size is None:
            raise ValueError(f'{image}: no size in image_sizes.txt of {self.root}')
        if listed and read_size and listed[::-1] != read_size:
            raise ValueError(
                f'{image}: the file has {read_size[1]} x {read_size[0]} px, image_sizes.txt of '
                f'{self.root} lists {listed[0]} x {listed[1]} px; the file differs, or is rotated '
                'by its EXIF orientation'
            )
        return listed[::-1] if listed else read_size

    def mask(self, image: str, size: tuple[int, int]) -> np.ndarray:
        """Return a mask of shape ``size``, uint8: 1 object, 0 background, 255 ignored."""
        masks = self.metadata.masks[image]
        return unite_masks(
            [self._read_mask(path) for path in masks.instances],
            self._read_mask(masks.ignore) if masks.ignore else None,
            size,
        )

    def _have_all_images(self, name: str, truth: dict) -> bool:
        missing = [image for image in self.metadata.labels if image not in truth]
        if truth and missing:
            raise ValueError(
                f'{self.root}: {len(missing)} images have no {name}, such as {missing[0]}, while '
                'others have; complete localization.txt, or remove the images from image_ids.txt'
            )
        return bool(truth)

    def _find_left_out(self) -> list[str]:
        left_out = []
        if not self.has_boxes:
            left_out.append(f'measures of boxes ({self.root} has none in localization.txt)')
        if not self.has_masks:
            reason = (
                'mask_root is not set'
                if self.metadata.masks
                else f'{self.root} has none in localization.txt or masks.txt'
            )
            left_out.append(f'px_ap, which needs masks ({reason})')
        return left_out

    def _check_masks_exist(self) -> None:
        paths = [
            self._mask_path(path)
            for masks in self.metadata.masks.values()
            for path in (*masks.instances, masks.ignore)
            if path
        ]
        missing = [path for path in paths if not isfile(path, backend_args=self.backend_args)]
        if missing:
            raise FileNotFoundError(
                f'{missing[0]}: missing; {len(missing)} masks of {self.root} are not in '
                f'{self.mask_root}'
            )

    def _mask_path(self, path: str) -> str:
        return join_path(self.mask_root, path, backend_args=self.backend_args)

    def _read_mask(self, path: str) -> np.ndarray:
        path = self._mask_path(path)
        content = np.frombuffer(get(path, backend_args=self.backend_args), np.uint8)
        mask = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE) if content.size else None
        if mask is None:
            raise ValueError(f'{path}: OpenCV cannot read this mask')
        return mask


class ScoreMapMeasures:
    """MaxBoxAcc of score maps if the ground truth has boxes, PxAP if it has masks.

    Args:
        truth (WSOLGroundTruth): ground truth of the split.
        size (tuple[int, int]): height and width at which maps are measured; None to measure at
            the size of each image.
        interval (float): interval between thresholds.
        iou_thresholds (Sequence[float]): IoU thresholds of MaxBoxAccV2.

    Raises:
        ValueError: if an argument is outside of its range.
    """

    def __init__(
        self,
        truth: WSOLGroundTruth,
        size: Optional[tuple[int, int]] = SIZE,
        interval: float = 0.001,
        iou_thresholds: Sequence[float] = (0.3, 0.5, 0.7),
    ) -> None:
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f'size must be (height, width) in px or None, got {size}')
        self.size = size
        self.max_box_acc = MaxBoxAcc(interval, iou_thresholds) if truth.has_boxes else None
        self.px_ap = PxAP(interval) if truth.has_masks else None

    def add(
        self,
        truth: WSOLGroundTruth,
        image: str,
        score_map: np.ndarray,
        read_size: Optional[tuple[int, int]] = None,
    ) -> None:
        """Measure the score map of an image.

        Args:
            truth (WSOLGroundTruth): ground truth of the split.
            image (str): name of the image.
            score_map (np.ndarray): (H, W) map over the whole image, of any size.
            read_size (tuple[int, int]): see :meth:`WSOLGroundTruth.image_size`.

        Raises:
            ValueError: with the name of the image, if the map is not finite or the size of the
                image is not known.
        """
        needs_size = self.max_box_acc or not self.size
        image_size = truth.image_size(image, read_size) if needs_size else None
        size = self.size or image_size
        try:
            score_map = resize_map(score_map, size)
            if self.max_box_acc:
                boxes = resize_boxes(truth.metadata.boxes[image], image_size, size)
                self.max_box_acc.add(score_map, boxes)
            if self.px_ap:
                self.px_ap.add(score_map, truth.mask(image, size))
        except ValueError as error:
            raise ValueError(f'{image}: {error}') from None

    def add_missing(self, truth: WSOLGroundTruth, image: str) -> None:
        """Count an image without a map: its boxes and pixels are not found.

        Raises:
            ValueError: with the name of the image, if its size is needed and not known.
        """
        if self.max_box_acc:
            self.max_box_acc.add_missing()
        if self.px_ap:
            self.px_ap.add_missing(truth.mask(image, self.size or truth.image_size(image)))

    def merge(self, other: 'ScoreMapMeasures') -> None:
        """Add the images of another instance with the same settings."""
        if self.max_box_acc:
            self.max_box_acc.merge(other.max_box_acc)
        if self.px_ap:
            self.px_ap.merge(other.px_ap)

    def compute(self) -> dict[str, float]:
        """Return the results of :class:`MaxBoxAcc` and :class:`PxAP`."""
        return {
            **(self.max_box_acc.compute() if self.max_box_acc else {}),
            **(self.px_ap.compute() if self.px_ap else {}),
        }


def resize_map(score_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a score map bilinearly, as :func:`mmgwap.localization.resize_maps` does.

    Args:
        score_map (np.ndarray): (H, W).
        size (tuple[int, int]): height and width of the result. A map of this size is returned
            unchanged.

    Raises:
        ValueError: if the map has not two dimensions or is not finite.
    """
    if score_map.ndim != 2 or not score_map.size or score_map.dtype.kind not in 'fiu':
        raise ValueError(
            f'a score map must be (H, W) of numbers, got {score_map.shape} {score_map.dtype}'
        )
    if not np.isfinite(score_map).all():
        count = int((~np.isfinite(score_map)).sum())
        raise ValueError(f'{count} values of the score map are NaN or infinite')
    if score_map.shape == tuple(size):
        return score_map
    if score_map.dtype not in (np.float32, np.float64):
        score_map = score_map.astype(np.float32)
    return cv2.resize(score_map, tuple(size)[::-1], interpolation=cv2.INTER_LINEAR)
