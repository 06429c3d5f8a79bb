"""A data set in which only some images keep their boxes."""

import logging
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Callable, NamedTuple, Optional, Union

import numpy as np
from mmcv.transforms import Compose
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS as MMDET_DATASETS
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.logging import print_log

from mmgwap.registry import DATASETS

from .annotation_checks import UNLABELLED, check_unlabelled
from .partial_split import read_split, split_from_flag, split_from_ids, stratified_split
from .results_file import Categories, ImageEntry, read_results
from .transforms import pack_image_labels, without_boxes
from .unreadable_images import load_sample


@DATASETS.register_module()
class PartialBoxDataset:
    """Remove the boxes from all but some images of a data set.

    The other images keep image labels: the classes of their boxes. Classes that only occur in
    ignored boxes (crowds, difficult objects) or in boxes dropped as degenerate are unknown. No
    image is filtered out for being empty.

    A sample is loaded by :func:`mmgwap.datasets.unreadable_images.load_sample`: the data info, with
    boxes or with labels, goes through the pipeline of the wrapped data set, or through
    ``label_pipeline``. ``PackDetInputs`` at the end of a pipeline is replaced by
    ``PackPartialInputs``.

    Transforms that mix images (Mosaic, MixUp, CopyPaste and their cached forms) would give an image
    boxes for only a part of its objects. They require a ``label_pipeline`` without such transforms;
    images with boxes are then mixed with each other only.

    Args:
        dataset (dict): data set of mmdet, or a ``ConcatDataset`` of such data sets, with its
            pipeline and ``on_bad_image``. ``RepeatDataset`` and ``ClassBalancedDataset`` must wrap
            the ``PartialBoxDataset``, not the other way round.
        percent (float): percentage of the images that keep boxes, see ``stratified_split``.
            Exactly one of ``percent``, ``split_file`` and ``flag`` is required.
        seed (int): seed of the choice by ``percent``.
        split_file (str): file with the ids of the images that keep their boxes, one per line.
        flag (str): key of the annotation file that is true for images that keep their boxes: in
            each entry of ``images`` of a COCO file, or an element under the root of each VOC XML.
        boxes_only (bool): whether to leave out the images without boxes.
        label_pipeline (list): pipeline of the images without boxes. By default they use the
            pipeline of the data set.
        unlabelled (str): treatment of images without boxes and without labels: 'ignore' (all
            classes are unknown, with a warning), 'negative' (all classes are absent, with a
            warning) or 'error'.
        pseudo_boxes (str): file with boxes of the images without boxes, for a
            ``LabelGuidedTeacher(boxes='file')``; path relative to the working directory. COCO
            results: ``image_id`` is the id of the annotation file, ``category_id`` that of the
            COCO file. Other data sets require ``category_name``. See
            :func:`mmgwap.datasets.results_file.read_results`.
        lazy_init (bool): whether to load annotations on first use, as in mmengine.

    Raises:
        ValueError: if an argument is out of range, the images cannot be chosen, a pipeline
            mixes images with and without boxes, or ``pseudo_boxes`` is malformed.
        TypeError: if ``dataset`` is not a supported data set.
    """

    def __init__(
        self,
        dataset: Union[dict, BaseDataset, ConcatDataset],
        percent: Optional[float] = None,
        seed: int = 0,
        split_file: Optional[str] = None,
        flag: Optional[str] = None,
        boxes_only: bool = False,
        label_pipeline: Optional[list[dict]] = None,
        unlabelled: str = 'ignore',
        pseudo_boxes: Optional[str] = None,
        lazy_init: bool = False,
    ) -> None:
        choices = dict(percent=percent, split_file=split_file, flag=flag)
        if sum(value is not None for value in choices.values()) != 1:
            raise ValueError(
                'PartialBoxDataset: give exactly one of percent, split_file and flag, got '
                f'{choices}'
            )
        if percent is not None and (isinstance(percent, bool) or not 0 <= percent <= 100):
            raise ValueError(
                f'PartialBoxDataset: percent must be a number in [0, 100], got {percent!r}'
            )
        if seed is None:  # numpy would choose other images in each process
            raise ValueError('PartialBoxDataset: seed must be an int, got None')
        if unlabelled not in UNLABELLED:
            raise ValueError(
                f'PartialBoxDataset: unlabelled must be one of {UNLABELLED}, got {unlabelled!r}'
            )
        if boxes_only and pseudo_boxes is not None:
            raise ValueError(
                f'PartialBoxDataset: pseudo_boxes={pseudo_boxes!r} are for images that '
                'boxes_only=True leaves out'
            )
        self.percent, self.seed = percent, seed
        self.split_file, self.flag = split_file, flag
        self.boxes_only = boxes_only
        self.unlabelled = unlabelled
        self.pseudo_boxes = pseudo_boxes
        self.dataset = MMDET_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.label_pipeline = None if label_pipeline is None else Compose(label_pipeline)
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    @property
    def metainfo(self) -> dict:
        return self.dataset.metainfo

    @property
    def boxed(self) -> np.ndarray:
        """(len(self), ) bool, whether each image has boxes."""
        self.full_init()
        return self._boxed

    def full_init(self) -> None:
        """Load the annotations and choose the images; further calls do nothing."""
        if self._fully_initialized:
            return
        self.dataset.full_init()
        if isinstance(self.metainfo, list):
            raise ValueError(
                'PartialBoxDataset: the parts of its ConcatDataset differ in metainfo, '
                f'{self.metainfo}; list the keys that may differ in ignore_keys=[...]'
            )
        base = base_datasets(self.dataset)
        images = summarize_images(self.dataset)
        boxed = self._choose(base, images)
        _log_split(images, boxed, self.metainfo['classes'], self.boxes_only)
        if not self.boxes_only:
            unlabelled = [
                image.id
                for image, has_boxes in zip(images, boxed)
                if not (has_boxes or image.present or image.ignored)
            ]
            check_unlabelled(unlabelled, self.unlabelled, 'PartialBoxDataset')
        if self.pseudo_boxes is not None:
            self._file_boxes = read_results(self.pseudo_boxes, _entries(base, images, boxed))
        self._indices = np.flatnonzero(boxed) if self.boxes_only else np.arange(len(images))
        self._boxed = boxed[self._indices]
        if self.label_pipeline is not None:
            self.label_pipeline = without_boxes(
                pack_image_labels(self.label_pipeline),
                'label_pipeline',
                self.pseudo_boxes is not None,
            )
        for dataset in base:
            self._set_pipelines(dataset, dataset.pipeline)
        self._fully_initialized = True

    def _choose(self, base: list[BaseDataset], images: list['ImageSummary']) -> np.ndarray:
        if self.percent is not None:
            num_classes = len(self.metainfo['classes'])
            return stratified_split(
                [image.present for image in images], self.percent, num_classes, self.seed
            )
        if self.split_file is not None:
            ids = [image.id for image in images]
            return split_from_ids(ids, read_split(self.split_file), self.split_file)
        return np.concatenate([split_from_flag(dataset, self.flag) for dataset in base])

    def _set_pipelines(self, dataset: BaseDataset, pipeline: Compose) -> None:
        """Set the pipelines of a base data set, for images with and without boxes."""
        dataset.pipeline = pack_image_labels(pipeline)
        if self.label_pipeline is not None:
            dataset.label_pipeline = self.label_pipeline
        elif not self._boxed.all():
            dataset.label_pipeline = without_boxes(
                dataset.pipeline,
                'the pipeline of the wrapped data set',
                self.pseudo_boxes is not None,
            )

    @property
    def pipeline(self) -> Compose:
        """Pipeline of images with boxes. Hooks may assign another pipeline."""
        self.full_init()
        return base_datasets(self.dataset)[0].pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Compose) -> None:
        self.full_init()
        for dataset in base_datasets(self.dataset):
            self._set_pipelines(dataset, pipeline)

    def __len__(self) -> int:
        self.full_init()
        return len(self._indices)

    def __getitem__(self, idx: int) -> dict:
        dataset, _, _ = self.source_of(idx)
        return load_sample(self, idx, dataset.max_refetch + 1)

    def get_data_info(self, idx: int) -> dict:
        """Return the annotations of an image: its boxes, or its image labels."""
        dataset, base_idx, _ = self.source_of(idx)
        info = dataset.get_data_info(base_idx)
        if self.boxed[idx]:
            return dict(info, has_boxes=True)
        summary = _summarize(info)
        ignored = summary.ignored
        if not (summary.present or ignored) and self.unlabelled == 'ignore':
            ignored = range(len(self.metainfo['classes']))
        for key in ('proposals', 'seg_map_path'):
            info.pop(key, None)
        boxes = [obj for obj in info.get('instances', []) if not obj.get('ignore_flag')]
        hidden = dict(
            bboxes=[obj['bbox'] for obj in boxes], labels=[obj['bbox_label'] for obj in boxes]
        )
        if self.pseudo_boxes is not None:
            info['file_instances'] = self._file_boxes[int(self._indices[idx])]
        return dict(
            info,
            has_boxes=False,
            instances=[],
            hidden_instances=hidden,
            image_labels=sorted(summary.present),
            ignored_image_labels=sorted(ignored),
        )

    def get_cat_ids(self, idx: int) -> list[int]:
        dataset, base_idx, _ = self.source_of(idx)
        return dataset.get_cat_ids(base_idx)

    def source_of(self, idx: int) -> tuple[BaseDataset, int, Callable]:
        """Return the base data set of an image, its index there, and its pipeline."""
        self.full_init()
        dataset, base_idx = self.dataset, int(self._indices[idx])
        while isinstance(dataset, ConcatDataset):
            part, base_idx = dataset._get_ori_dataset_idx(base_idx)
            dataset = dataset.datasets[part]
        return dataset, base_idx, dataset.pipeline if self._boxed[idx] else dataset.label_pipeline

    def random_index_of_same_kind(self, idx: int) -> int:
        """Return the index of a random image with boxes, or without, as image ``idx``."""
        return int(np.random.choice(np.flatnonzero(self.boxed == self.boxed[idx])))


class ImageSummary(NamedTuple):
    """Image labels of an annotated image.

    Attributes:
        id: id in the annotation file.
        present: classes of the boxes.
        ignored: classes that only occur in ignored boxes (crowds, difficult objects) or in boxes
            dropped as degenerate.
        size: (width, height) in pixels; infinite if unknown.
    """

    id: Union[int, str]
    present: set[int]
    ignored: set[int]
    size: tuple[float, float]


def summarize_images(dataset: Union[BaseDataset, ConcatDataset]) -> list[ImageSummary]:
    """Summarize the annotations of all images."""
    return [
        _summarize(base.get_data_info(i))
        for base in base_datasets(dataset)
        for i in range(len(base))
    ]


def _summarize(info: dict) -> ImageSummary:
    instances = info.get('instances', [])
    present = {obj['bbox_label'] for obj in instances if not obj.get('ignore_flag')}
    ignored = {obj['bbox_label'] for obj in instances}
    ignored.update(info.get('dropped_labels', ()))
    size = tuple(info.get(side) or np.inf for side in ('width', 'height'))
    return ImageSummary(info.get('img_id'), present, ignored - present, size)


def _entries(
    base: list[BaseDataset], images: list[ImageSummary], boxed: np.ndarray
) -> list[ImageEntry]:
    """Return the images as the reader of results files needs them."""
    categories = chain.from_iterable(repeat(categories_of(each), len(each)) for each in base)
    return [
        ImageEntry(image.id, of_image, not has_boxes, image.size)
        for image, of_image, has_boxes in zip(images, categories, boxed)
    ]


def categories_of(dataset: BaseDataset) -> Categories:
    """Return the labels of the categories of a data set with boxes."""
    by_name = {name: label for label, name in enumerate(dataset.metainfo['classes'])}
    return Categories(by_name, dataset.cat2label if isinstance(dataset, CocoDataset) else {})


def base_datasets(dataset: Union[BaseDataset, ConcatDataset]) -> list[BaseDataset]:
    """Return the data sets inside of a ``ConcatDataset``, in order.

    Raises:
        TypeError: if there is another wrapper, or a data set of images without boxes.
    """
    if isinstance(dataset, ConcatDataset):
        return [base for part in dataset.datasets for base in base_datasets(part)]
    # The data sets of mmgwap for images without boxes have the attribute `boxed`.
    if isinstance(dataset, BaseDataset) and not hasattr(dataset, 'boxed'):
        return [dataset]
    raise TypeError(
        f'PartialBoxDataset cannot wrap {type(dataset).__name__}, only data sets with boxes or a '
        'ConcatDataset of them; put other wrappers around the PartialBoxDataset, and data sets '
        'without boxes beside it'
    )


def _log_split(
    images: list[ImageSummary], boxed: np.ndarray, classes: Sequence[str], boxes_only: bool
) -> None:
    """Log how many images keep their boxes, and warn of classes that lose all boxes."""
    kept = [image for image, has_boxes in zip(images, boxed) if has_boxes]
    others = [image for image, has_boxes in zip(images, boxed) if not has_boxes]
    if boxes_only and not kept:
        raise ValueError('PartialBoxDataset: no image keeps its boxes, but boxes_only=True')
    effect = 'are left out' if boxes_only else 'have image labels only'
    print_log(
        f'PartialBoxDataset: {len(kept)} of {len(images)} images keep their boxes, '
        f'{len(others)} {effect}',
        'current',
    )
    missing = _classes_of(others) - _classes_of(kept)
    if not kept:
        message = 'no image keeps its boxes; the detector needs another data set to train on'
    elif missing:
        message = f'no image keeps boxes of {", ".join(classes[c] for c in sorted(missing))}'
    else:
        return
    print_log(f'PartialBoxDataset: {message}', 'current', logging.WARNING)


def _classes_of(images: list[ImageSummary]) -> set[int]:
    return set().union(*(image.present for image in images))
