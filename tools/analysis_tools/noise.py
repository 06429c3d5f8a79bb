"""Loaders of a config without its data: images of noise, objects anywhere."""

from pathlib import Path

import cv2
import numpy as np
from mmdet.datasets import BaseDetDataset
from mmdet.registry import DATASETS
from mmengine.config import ConfigDict

from mmgwap.datasets import ImageLabelDataset, PartialBoxDataset, WSOLDataset
from mmgwap.datasets.transforms import pack_image_labels, without_boxes

OBJECTS = 7  # of an image, about as many as in COCO


@DATASETS.register_module()
class NoiseDataset(BaseDetDataset):
    """The same image of noise many times, with boxes or with labels only.

    Args:
        image (str): its file.
        size (tuple[int, int]): its height and width.
        boxes (bool): whether it has boxes.
        metainfo, pipeline, test_mode: as for mmdet's data sets.
    """

    def __init__(self, *args, image: str, size: tuple[int, int], boxes: bool, **kwargs) -> None:
        self.image, self.size, self.boxes = image, tuple(size), boxes
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        super().full_init()
        if not self.boxes:
            self.boxed = np.zeros(len(self), dtype=bool)
            self.pipeline = without_boxes(pack_image_labels(self.pipeline), 'it')

    def load_data_list(self) -> list[dict]:
        # Each class often enough for any split of the images.
        return [self._info(i) for i in range(max(64, self._num_classes()))]

    def _num_classes(self) -> int:
        return len(self.metainfo.get('classes', ())) or 1

    def _info(self, index: int) -> dict:
        rng, (height, width) = np.random.RandomState(index), self.size
        labels = [(index * OBJECTS + i) % self._num_classes() for i in range(OBJECTS)]
        info = dict(
            img_id=index,
            img_path=self.image,
            height=height,
            width=width,
            seg_map_path=None,
            has_boxes=self.boxes,
        )
        if not self.boxes:
            return dict(info, instances=[], image_labels=labels[:1], ignored_image_labels=[])
        return dict(info, instances=[_object(label, rng, height, width) for label in labels])

    def get_cat_ids(self, idx: int) -> list[int]:
        info = self.get_data_info(idx)
        return info.get('image_labels') or [one['bbox_label'] for one in info['instances']]


def _object(label: int, rng: np.random.RandomState, height: int, width: int) -> dict:
    """An instance with a third of each side of the image on average."""
    x, y = rng.rand(2) * 0.5
    w, h = 0.15 + rng.rand(2) * 0.35
    x1, y1, x2, y2 = (np.array([x, y, x + w, y + h]) * [width, height, width, height]).tolist()
    return dict(
        bbox=[x1, y1, x2, y2],
        bbox_label=label,
        ignore_flag=0,
        mask=[[x1, y1, x2, y1, x2, y2, x1, y2]],
    )


def write_noise(folder: Path, size: tuple[int, int]) -> Path:
    """Write the image; returns its path."""
    path = folder / 'noise.jpg'
    pixels = np.random.RandomState(0).randint(0, 256, (*size, 3))
    cv2.imwrite(str(path), pixels.astype(np.uint8))
    return path


def with_noise(dataset: ConfigDict, image: Path, size: tuple[int, int]) -> ConfigDict:
    """A data set's config, with noise for images and its wrappers kept."""
    kind = DATASETS.get(dataset.type) if isinstance(dataset.type, str) else dataset.type
    if 'datasets' in dataset:
        parts = [with_noise(one, image, size) for one in dataset.datasets]
        return ConfigDict(dataset, datasets=parts)
    if 'dataset' in dataset:
        changed = ConfigDict(dataset, dataset=with_noise(dataset.dataset, image, size))
        if kind is PartialBoxDataset:
            for key in ('split_file', 'flag'):
                changed.pop(key, None)
            changed.percent = 50  # of few images; the sampler fills batches
        return changed
    meta = dict(getattr(kind, 'METAINFO', {}), **dataset.get('metainfo', {}))
    return ConfigDict(
        type='NoiseDataset',
        image=str(image),
        size=size,
        metainfo=meta,
        boxes=not issubclass(kind, (ImageLabelDataset, WSOLDataset)),
        test_mode=dataset.get('test_mode', False),
        pipeline=dataset.get('pipeline', []),
    )
