"""A data set of images with image labels only."""

import logging
from typing import Optional

import numpy as np
from mmdet.datasets import BaseDetDataset
from mmengine.logging import print_log

from mmgwap.registry import DATASETS

from .annotation_checks import UNLABELLED, check_classes, check_unlabelled
from .image_label_readers import READERS, LabelledImage
from .results_file import Categories, ImageEntry, read_results
from .transforms import pack_image_labels, without_boxes
from .unreadable_images import UnreadableImageMixin


@DATASETS.register_module()
class ImageLabelDataset(UnreadableImageMixin, BaseDetDataset):
    """Images without boxes, with image labels from folders, CSV, COCO JSON or VOC image sets.

    Combine it with a data set with boxes in a ``ConcatDataset``, whose ``ignore_keys`` lists the
    keys of the metainfo that differ.

    ``PackDetInputs`` at the end of the pipeline is replaced by ``PackPartialInputs``. Transforms
    that mix images are refused.

    Args:
        format (str): format of the labels:

            * 'folders': ``data_prefix['img']/CLASS/.../IMAGE``.
            * 'csv': ``ann_file`` with the columns ``image`` and ``label``, one row per label. A row
              with an empty label adds an image without labels.
            * 'coco': ``ann_file`` in COCO JSON. Labels are the category ids in ``image_labels`` of
              each entry of ``images``, and the categories of ``annotations``, whose boxes are not
              read.
            * 'voc': ``ann_file`` with ``{}`` for the class, such as
              ``ImageSets/Main/{}_train.txt``. Lines hold an id and 1 (present), -1 (absent) or 0
              (difficult: unknown).
        names (dict): class of each name that the files use instead of the class name, such as
            ``dict(n02084071='dog')``.
        complete (bool): whether classes that are not among the labels of an image are absent. If
            false, they are unknown.
        unlisted_categories (str): treatment of labels that are not among the classes: 'error', or
            'ignore' with a warning. An image without any other label is treated as ``unlabelled``;
            if labels are not ``complete``, it is left out.
        unlabelled (str): treatment of images without labels: 'ignore' (all classes are unknown,
            with a warning), 'negative' (all classes are absent, with a warning) or 'error'.
        pseudo_boxes (str): file with boxes of the images, for a
            ``LabelGuidedTeacher(boxes='file')``; path relative to the working directory. COCO
            results: ``image_id`` is the id of 'coco' and 'voc', the path below
            ``data_prefix['img']`` of 'folders' and 'csv'. ``category_id`` is that of 'coco'; the
            other formats require ``category_name``. See
            :func:`mmgwap.datasets.results_file.read_results`.
        on_bad_image (str): 'error' or 'skip', see :class:`UnreadableImageMixin`.
        ann_file, data_root, data_prefix, metainfo, pipeline, ...: as for mmdet's data sets.
            ``metainfo`` must list the classes.

    Attributes:
        boxed (np.ndarray): (len(self), ) bool, all false.

    Raises:
        ValueError: if an argument is not among its choices, the classes are missing, a file is
            malformed, or there are no images.
    """

    def __init__(
        self,
        *args,
        format: str,
        names: Optional[dict] = None,
        complete: bool = True,
        unlisted_categories: str = 'error',
        unlabelled: str = 'ignore',
        pseudo_boxes: Optional[str] = None,
        **kwargs,
    ) -> None:
        for name, value, choices in (
            ('format', format, tuple(READERS)),
            ('unlisted_categories', unlisted_categories, ('error', 'ignore')),
            ('unlabelled', unlabelled, UNLABELLED),
        ):
            if value not in choices:
                raise ValueError(
                    f'ImageLabelDataset: {name} must be one of {choices}, got {value!r}'
                )
        self.format, self.names, self.complete = format, names or {}, complete
        self.unlisted_categories = unlisted_categories
        self.unlabelled = unlabelled
        self.pseudo_boxes = pseudo_boxes
        self.category_names = {}  # by category id; set by the reader of COCO files
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        super().full_init()
        self.boxed = np.zeros(len(self), dtype=bool)
        self.pipeline = without_boxes(
            pack_image_labels(self.pipeline),
            'the pipeline of ImageLabelDataset',
            self.pseudo_boxes is not None,
        )

    def load_data_list(self) -> list[dict]:
        """Read the labels of all images."""
        if 'img' not in self.data_prefix:
            raise ValueError(
                "ImageLabelDataset: data_prefix=dict(img='...') must give the folder of the images"
            )
        self._where = self.ann_file or self.data_prefix['img']
        self._label_of = self._labels_by_name()
        self._unlisted = {}  # number of labels by name
        images = READERS[self.format](self)
        if not images:
            raise ValueError(f'{self._where}: no images found')
        data_list = list(filter(None, map(self._data_info, images)))
        print_log(f'{self._where}: {len(data_list)} images with image labels only', 'current')
        if self._unlisted:
            self._report_unlisted(len(images) - len(data_list))
        unlabelled = [info['img_path'] for info in data_list if info.pop('unlabelled')]
        check_unlabelled(unlabelled, self.unlabelled, self._where)
        if not data_list:
            raise ValueError(
                f'{self._where}: no image has a label among the classes {self.metainfo["classes"]}'
            )
        if self.pseudo_boxes is not None:
            categories = self.categories()
            images = [ImageEntry(info['img_id'], categories) for info in data_list]
            boxes = read_results(self.pseudo_boxes, images)
            for index, info in enumerate(data_list):
                info['file_instances'] = boxes[index]
        return data_list

    def categories(self) -> Categories:
        """Return the labels of the names, and of the category ids of a COCO file."""
        names = self.category_names.items()
        by_id = {i: self._label_of[name] for i, name in names if name in self._label_of}
        return Categories(self._label_of, by_id)

    def _labels_by_name(self) -> dict[str, int]:
        """Return the label of each class name, and of each name in ``names``."""
        classes = check_classes(self._metainfo, 'ImageLabelDataset')
        labels = {name: i for i, name in enumerate(classes)}
        for name, class_name in self.names.items():
            if class_name not in classes:
                raise ValueError(
                    f'ImageLabelDataset: names maps {name!r} to {class_name!r}, which is not among '
                    f'the classes {classes}'
                )
            labels[name] = labels[class_name]
        return labels

    def _data_info(self, image: LabelledImage) -> Optional[dict]:
        """Return the data info of an image; None if its labels leave every class unknown."""
        present = self._labels(image.present)
        ignored = self._labels(image.ignored) - present
        absent = self._labels(image.absent) - present
        unlabelled = not (present or ignored or absent)
        if unlabelled and image.present and not self.complete:
            return None
        if self.unlabelled == 'ignore' if unlabelled else not self.complete:
            ignored = set(range(len(self.metainfo['classes']))) - present - absent
        return dict(
            img_path=image.path,
            img_id=image.id,
            instances=[],
            has_boxes=False,
            image_labels=sorted(present),
            ignored_image_labels=sorted(ignored),
            unlabelled=unlabelled,
        )

    def _labels(self, names: list[str]) -> set[int]:
        for name in names:
            if name not in self._label_of:
                self._unlisted[name] = self._unlisted.get(name, 0) + 1
        return {self._label_of[name] for name in names if name in self._label_of}

    def _report_unlisted(self, num_left_out: int) -> None:
        message = (
            f'{self._where}: {sum(self._unlisted.values())} labels are not among the classes of '
            f'the config, {self.metainfo["classes"]}: {sorted(self._unlisted)[:10]}'
        )
        if self.unlisted_categories == 'error':
            raise ValueError(
                f'{message}; add them to metainfo=dict(classes=...) or names=dict(...), or set '
                "unlisted_categories='ignore'"
            )
        print_log(
            f'{message}; they are ignored, and {num_left_out} images left out',
            'current',
            logging.WARNING,
        )

    def get_cat_ids(self, idx: int) -> list[int]:
        return self.get_data_info(idx)['image_labels']
