"""A data set in which only some images keep their boxes."""

from functools import partial
from typing import Optional, Union

import numpy as np
from mmcv.transforms import Compose
from mmdet.registry import DATASETS as MMDET_DATASETS
from mmengine.dataset import BaseDataset, ConcatDataset

from mmgwap.registry import DATASETS

from .bad_images import draw_sample, take_sample
from .flags import read_flags
from .partial_arguments import check_partial_arguments
from .partial_pipeline import adapt_pipeline, for_labels
from .partial_split import mask_of_ids, read_split, stratified_split
from .reports import report_split
from .summaries import Summary, leaves, summaries, summarise


@DATASETS.register_module()
class PartialBoxDataset:
    """Takes the boxes from all but some images of a data set.

    The others keep the labels of the image: the classes of their boxes;
    classes of ignored boxes alone (crowds, difficult objects) are unknown.
    None is dropped for being empty.

    Exactly one of ``percent``, ``split_file`` and ``flag`` says which images
    keep their boxes.  Where a pipeline ends in ``PackDetInputs``, that becomes
    ``PackPartialInputs``.

    Augmentations that mix images (Mosaic, MixUp, CopyPaste and their cached
    forms) would give an image boxes for a part of its objects only.  So they
    need a ``label_pipeline`` without them for the other images; then they mix
    images with boxes among themselves.

    Args:
        dataset (dict): mmdet data set, or ``ConcatDataset`` of such, with its
            pipeline and its ``on_bad_image``.  ``RepeatDataset`` and
            ``ClassBalancedDataset`` go around ``PartialBoxDataset``, not into
            it.
        percent (float): of the images, chosen so that each class has its part.
        seed (int): of that choice.
        split_file (str): ids of images, a line each.
        flag (str): a key of the annotation file: in each entry of ``images`` of
            a COCO file, or an element under the root of each VOC XML.
        boxes_only (bool): whether to leave the other images out, for the
            detector that labels have to beat.
        label_pipeline (list): instead of the data set's, for the images
            without boxes.
        unlabelled (str): what an image is taken for that had no boxes to take:
            'ignore' (nothing is known of it, with a warning), 'negative' (it
            has none of the classes) or 'error'.
        lazy_init (bool): as in mmengine.

    Attributes:
        boxed (np.ndarray): (len(self), ) bool, whether an image has boxes.

    Raises:
        ValueError: if an argument is of another kind or outside of its range,
            the choice is impossible, see ``partial_split``, or the pipeline
            would mix images with and without boxes.
        TypeError: if ``dataset`` is of another kind.
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
        lazy_init: bool = False,
    ) -> None:
        choices = dict(percent=percent, split_file=split_file, flag=flag)
        check_partial_arguments(
            dataset,
            choices,
            seed,
            label_pipeline,
            unlabelled,
            boxes_only=boxes_only,
            lazy_init=lazy_init,
        )
        self.percent, self.seed = percent, seed
        self.split_file, self.flag = split_file, flag
        self.boxes_only = boxes_only
        self.unlabelled = unlabelled
        self.dataset = MMDET_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.label_pipeline = label_pipeline and Compose(label_pipeline)
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    @property
    def metainfo(self) -> dict:
        return self.dataset.metainfo

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        self.dataset.full_init()
        if isinstance(self.metainfo, list):
            raise ValueError(
                'PartialBoxDataset: the parts of its ConcatDataset differ in '
                f'metainfo, {self.metainfo}; name what may differ in '
                'ignore_keys=[...]'
            )
        images = summaries(self.dataset)
        self.boxed = self._choose(images)
        report_split(images, self.boxed, self.metainfo['classes'], self.boxes_only, self.unlabelled)
        self._places = np.arange(len(images))
        if self.boxes_only:
            self._places = self._places[self.boxed]
            self.boxed = self.boxed[self._places]
        self._fully_initialized = True
        if self.label_pipeline is not None:
            self.label_pipeline = for_labels(adapt_pipeline(self.label_pipeline), 'label_pipeline')
        for leaf in leaves(self.dataset):
            self._use(leaf, leaf.pipeline)

    def _choose(self, images: list[Summary]) -> np.ndarray:
        if self.percent is not None:
            return stratified_split(
                [image.present for image in images],
                self.percent,
                len(self.metainfo['classes']),
                self.seed,
            )
        if self.split_file is not None:
            return mask_of_ids(
                [image.id for image in images], read_split(self.split_file), self.split_file
            )
        return np.concatenate([read_flags(leaf, self.flag) for leaf in leaves(self.dataset)])

    def _use(self, leaf: BaseDataset, pipeline: Compose) -> None:
        """Give a data set its pipeline, and one for images without boxes."""
        leaf.pipeline = adapt_pipeline(pipeline)
        if self.label_pipeline is not None:
            leaf.label_pipeline = self.label_pipeline
        elif not self.boxed.all():
            leaf.label_pipeline = for_labels(leaf.pipeline, 'the pipeline of its data set')

    @property
    def pipeline(self) -> Compose:
        """The pipeline of images with boxes; hooks may set another."""
        return leaves(self.dataset)[0].pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Compose) -> None:
        for leaf in leaves(self.dataset):
            self._use(leaf, pipeline)

    def __len__(self) -> int:
        return len(self._places)

    def get_cat_ids(self, idx: int) -> list[int]:
        leaf, inner = self._leaf_of(idx)
        return leaf.get_cat_ids(inner)

    def get_data_info(self, idx: int) -> dict:
        """Annotations of an image: boxes, or labels instead of them."""
        leaf, inner = self._leaf_of(idx)
        info = leaf.get_data_info(inner)
        if self.boxed[idx]:
            return dict(info, has_boxes=True)
        _, present, ignored = summarise(info)
        if not (present or ignored) and self.unlabelled == 'ignore':
            ignored = range(len(self.metainfo['classes']))
        for key in ('proposals', 'seg_map_path'):
            info.pop(key, None)
        return dict(
            info,
            has_boxes=False,
            instances=[],
            image_labels=sorted(present),
            ignored_image_labels=sorted(ignored),
        )

    def prepare_data(self, idx: int) -> Optional[dict]:
        """A sample of an image, None if another has to be taken."""
        leaf, inner = self._leaf_of(idx)
        return take_sample(
            leaf,
            inner,
            partial(self.get_data_info, idx),
            leaf.pipeline if self.boxed[idx] else leaf.label_pipeline,
        )

    def another_like(self, idx: int) -> int:
        """A random image with boxes, or without, as that one."""
        kind = np.flatnonzero(self.boxed == self.boxed[idx])
        return int(np.random.choice(kind))

    def __getitem__(self, idx: int) -> dict:
        """A sample; another of the same kind if there is none of it."""
        leaf, _ = self._leaf_of(idx)
        return draw_sample(self, idx, leaf.max_refetch + 1)

    def _leaf_of(self, idx: int) -> tuple[BaseDataset, int]:
        """The data set that holds an image, and the image's place in it."""
        dataset, idx = self.dataset, int(self._places[idx])
        while isinstance(dataset, ConcatDataset):
            part, idx = dataset._get_ori_dataset_idx(idx)
            dataset = dataset.datasets[part]
        return dataset, idx
