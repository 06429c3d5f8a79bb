"""Ground truth in the layout of the WSOL evaluation."""

import os
from typing import Optional

import cv2
import numpy as np

from mmgwap.datasets.wsol_metadata import read_wsol_metadata

from .functional import unite_masks


class WSOLTruth:
    """Classes, boxes and masks of a split.

    Args:
        root (str): folder of the metadata.
        mask_root (str): folder of the masks; without it they are left out.

    Attributes:
        metadata (WSOLMetadata): what the files say.
        has_boxes, has_masks (bool): whether there are any, then of all images.
        left_out (list[str]): what cannot be measured, and why.

    Raises:
        FileNotFoundError: if the metadata or a mask is missing.
        ValueError: if the metadata is faulty, or some images have boxes (or
            masks), and others have none.
    """

    def __init__(self, root: str, mask_root: str = '') -> None:
        self.root, self.mask_root = root, mask_root
        self.metadata = read_wsol_metadata(root)
        self.has_boxes = self._has('boxes', self.metadata.boxes)
        self.has_masks = self._has('masks', self.metadata.masks) and bool(mask_root)
        self.left_out = []
        if not self.has_boxes:
            self.left_out.append(f'what needs boxes ({root} has none in localization.txt)')
        if not self.has_masks:
            why = (
                'its mask_root is not given'
                if self.metadata.masks
                else f'{root} has none in localization.txt or masks.txt'
            )
            self.left_out.append(f'px_ap, which needs masks ({why})')
        if self.has_masks:
            self._find_masks()

    def _has(self, name: str, given: dict) -> bool:
        missing = [image for image in self.metadata.labels if image not in given]
        if given and missing:
            raise ValueError(
                f'{self.root}: no {name} for {len(missing)} images, such as '
                f'{missing[0]}, while others have some; complete '
                'localization.txt, or take the images out of image_ids.txt'
            )
        return bool(given)

    def _find_masks(self) -> None:
        paths = [
            self._mask_path(path)
            for masks in self.metadata.masks.values()
            for path in (*masks.instances, masks.ignore)
            if path
        ]
        missing = [path for path in paths if not os.path.isfile(path)]
        if missing:
            raise FileNotFoundError(
                f'{missing[0]}: missing, one of {len(missing)} masks of '
                f'{self.root} that are not below {self.mask_root}'
            )

    def _mask_path(self, path: str) -> str:
        return os.path.join(self.mask_root, path)

    def label(self, image: str) -> int:
        """The class of an image; ValueError if it is not of the split."""
        if image not in self.metadata.labels:
            raise ValueError(f'image {image!r} is not in image_ids.txt of {self.root}')
        return self.metadata.labels[image]

    def image_size(self, image: str, seen: Optional[tuple[int, int]] = None) -> tuple[int, int]:
        """Height and width of an image.

        Args:
            image (str): its name.
            seen (tuple[int, int]): those of the image file, if it was read.

        Raises:
            ValueError: if they are not known, or not those of the metadata.
        """
        known = self.metadata.sizes.get(image)
        if known is None and seen is None:
            raise ValueError(f'{image}: no size in image_sizes.txt of {self.root}')
        if known and seen and known[::-1] != seen:
            raise ValueError(
                f'{image}: is {seen[1]} x {seen[0]}, image_sizes.txt of '
                f'{self.root} says {known[0]} x {known[1]}; another file, or '
                'one turned by its EXIF orientation'
            )
        return known[::-1] if known else seen

    def mask(self, image: str, size: tuple[int, int]) -> np.ndarray:
        """``size``, uint8: 1 object, 0 background, 255 ignored."""
        masks = self.metadata.masks[image]
        return unite_masks(
            [self._read(path) for path in masks.instances],
            self._read(masks.ignore) if masks.ignore else None,
            size,
        )

    def _read(self, path: str) -> np.ndarray:
        path = self._mask_path(path)
        mask = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise ValueError(f'{path}: is no image that OpenCV reads')
        return mask
