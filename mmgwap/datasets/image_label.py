"""Images of which only labels are known."""

import logging
from typing import Optional

import numpy as np
from mmdet.datasets import BaseDetDataset
from mmengine.logging import print_log

from mmgwap.argument_checks import check_flag
from mmgwap.registry import DATASETS

from .bad_images import BadImages
from .class_names import check_classes
from .image_label_readers import READERS, Labelled
from .partial_pipeline import adapt_pipeline, for_labels
from .reports import UNLABELLED, report_unlabelled

CHOICES = dict(
    format=tuple(READERS), unlisted_categories=('error', 'ignore'), unlabelled=UNLABELLED
)


@DATASETS.register_module()
class ImageLabelDataset(BadImages, BaseDetDataset):
    """Images that never had boxes, with the classes that are on them.

    Mix it with boxed data in a ``ConcatDataset``, whose ``ignore_keys`` names
    what else than the classes differs in their metainfo.

    A pipeline that ends in ``PackDetInputs`` ends in ``PackPartialInputs``
    instead; one that mixes images is refused.

    Args:
        format (str): how the labels are kept:

            * 'folders': ``data_prefix['img']/CLASS/.../IMAGE``.
            * 'csv': ``ann_file`` with the columns ``image`` and ``label``, a
              row for each label of an image; a row with an empty label is an
              image without.
            * 'coco': ``ann_file`` is COCO JSON; labels are the category ids in
              ``image_labels`` of the entries of ``images``, and the categories
              of ``annotations``, whose boxes, if any, are not read.
            * 'voc': ``ann_file`` holds ``{}`` for the class, as in
              ``ImageSets/Main/{}_train.txt``, whose lines are an id and 1
              (present), -1 (absent) or 0 (difficult: not known).
        names (dict): classes by the names in the files, where they differ,
            such as ``dict(n02084071='dog')``.
        complete (bool): whether an image has none of the classes that are not
            among its labels.  Else they are not known.
        unlisted_categories (str): what to do about a label that is not among
            the classes: 'error', or 'ignore' it, with a warning.  An image of
            such labels alone is taken for ``unlabelled`` or, if labels are not
            ``complete``, left out.
        unlabelled (str): what an image without labels is taken for: 'ignore'
            (nothing is known of it, with a warning), 'negative' (it has none
            of the classes) or 'error'.
        on_bad_image (str): 'error' or 'skip', see :class:`BadImages`.
        ann_file, data_root, data_prefix, metainfo, pipeline, ...: as for
            mmdet's data sets.  ``metainfo`` has to list the classes.

    Attributes:
        boxed (np.ndarray): (len(self), ) bool, all false.

    Raises:
        ValueError: if an argument is none of its choices, the classes are not
            given, a file is not as described or there is no image.
    """

    def __init__(
        self,
        *args,
        format: str,
        names: Optional[dict] = None,
        complete: bool = True,
        unlisted_categories: str = 'error',
        unlabelled: str = 'ignore',
        **kwargs,
    ) -> None:
        for name, value in (
            ('format', format),
            ('unlisted_categories', unlisted_categories),
            ('unlabelled', unlabelled),
        ):
            if value not in CHOICES[name]:
                raise ValueError(
                    f'ImageLabelDataset: {name} must be one of {CHOICES[name]}, got {value!r}'
                )
        check_flag(complete, 'ImageLabelDataset: complete')
        if not (names is None or isinstance(names, dict)):
            raise ValueError(
                f'ImageLabelDataset: names must be a dict of classes by names, got {names!r:.80}'
            )
        self.format, self.names, self.complete = format, names or {}, complete
        self.unlisted_categories = unlisted_categories
        self.unlabelled = unlabelled
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        super().full_init()
        self.boxed = np.zeros(len(self), dtype=bool)
        self.pipeline = for_labels(
            adapt_pipeline(self.pipeline), 'the pipeline of ImageLabelDataset'
        )

    def load_data_list(self) -> list[dict]:
        """Read the labels of all images."""
        check_classes(self._metainfo, 'ImageLabelDataset')
        if 'img' not in self.data_prefix:
            raise ValueError(
                "ImageLabelDataset needs data_prefix=dict(img='...'), the folder of the images"
            )
        self._where = self.ann_file or self.data_prefix['img']
        # A class is known by its own name, and by those that stand for it.
        self._numbers = {name: i for i, name in enumerate(self.metainfo['classes'])}
        for name, stands_for in self.names.items():
            if stands_for not in self._numbers:
                raise ValueError(
                    f'names: {stands_for!r}, for {name!r}, is not '
                    f'among the classes {self.metainfo["classes"]}'
                )
            self._numbers[name] = self._numbers[stands_for]
        self._unlisted = {}
        images = READERS[self.format](self)
        data_list = list(filter(None, map(self._info, images)))
        if not images:
            raise ValueError(f'{self._where}: no image found')
        self._report(data_list, len(images) - len(data_list))
        if not data_list:
            raise ValueError(
                f'{self._where}: no image has a label that is '
                f'among the classes {self.metainfo["classes"]}'
            )
        return data_list

    def _info(self, image: Labelled) -> Optional[dict]:
        """Data info of an image, None if its labels say nothing."""
        present = self._classes(image.present)
        ignored = self._classes(image.ignored) - present
        absent = self._classes(image.absent) - present
        bare = not (present or ignored or absent)
        if bare and image.present and not self.complete:
            return None
        if self.unlabelled == 'ignore' if bare else not self.complete:
            ignored = set(range(len(self.metainfo['classes'])))
            ignored -= present | absent
        return dict(
            img_path=image.path,
            img_id=image.id,
            instances=[],
            has_boxes=False,
            image_labels=sorted(present),
            ignored_image_labels=sorted(ignored),
            bare=bare,
        )

    def _classes(self, names: list[str]) -> set:
        for name in names:
            if name not in self._numbers:
                self._unlisted[name] = self._unlisted.get(name, 0) + 1
        return {self._numbers[name] for name in names if name in self._numbers}

    def _report(self, data_list: list[dict], left_out: int) -> None:
        """Log how many images there are, and what looks wrong."""
        print_log(f'{self._where}: {len(data_list)} images with image labels only', 'current')
        if self._unlisted:
            what = (
                f'{self._where}: {sum(self._unlisted.values())} labels are '
                'not among the classes of the config, '
                f'{self.metainfo["classes"]}: {sorted(self._unlisted)[:10]}'
            )
            if self.unlisted_categories == 'error':
                raise ValueError(
                    f'{what}; list them in metainfo=dict(classes='
                    '...) or names=dict(...), or set '
                    "unlisted_categories='ignore'"
                )
            print_log(
                f'{what}; they are ignored, and {left_out} images left out',
                'current',
                logging.WARNING,
            )
        report_unlabelled(
            [info['img_path'] for info in data_list if info.pop('bare')],
            self.unlabelled,
            self._where,
        )

    def get_cat_ids(self, idx: int) -> list[int]:
        return self.get_data_info(idx)['image_labels']
