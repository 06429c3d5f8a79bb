"""Checks of annotations that mmdet's data sets leave to the user.

mmdet drops some bad boxes without a word, trains on others until the loss is
NaN, and skips categories that the config does not list.
"""

import logging

from mmengine.logging import print_log

from .bad_images import BadImages
from .degenerate import WHAT


class AnnotationChecks(BadImages):
    """Mixin for a ``BaseDetDataset``: checks at loading time.

    * Degenerate boxes are dropped, with one warning for the data set that
      counts them and names the first file.
    * An object of a category that the config does not list is an error, unless
      ``unlisted_categories='ignore'``, which trains on a subset of classes.
    * A data set without images is an error.
    * What fails while a sample is read is raised with the image's path, or
      skipped, see :class:`BadImages`.

    Args:
        unlisted_categories (str): 'error' or 'ignore'.
        on_bad_image (str): 'error' or 'skip'.
    """

    def __init__(self, *args, unlisted_categories: str = 'error', **kwargs) -> None:
        if unlisted_categories not in ('error', 'ignore'):
            raise ValueError(
                f"unlisted_categories must be 'error' or 'ignore', got {unlisted_categories!r}"
            )
        self.unlisted_categories = unlisted_categories
        self._dropped = {}  # file: number of degenerate boxes
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        super().full_init()
        if self._dropped:
            print_log(
                f'{self.ann_file}: dropped {sum(self._dropped.values())} boxes'
                f' {WHAT}, in {len(self._dropped)} images, the first in '
                f'{next(iter(self._dropped))}',
                'current',
                logging.WARNING,
            )

    def filter_data(self) -> list[dict]:
        data_list = super().filter_data()
        if not data_list:
            raise ValueError(
                f'{self.ann_file}: no image is left to '
                f'{"test" if self.test_mode else "train"} on (filter_cfg='
                f'{self.filter_cfg}, classes={self.metainfo["classes"]})'
            )
        return data_list

    def _check_category(self, name: str, where: str) -> None:
        """Refuse an object of a category that the config does not list."""
        if self.unlisted_categories == 'error' and name not in self.metainfo['classes']:
            raise ValueError(
                f'{where}: category {name!r} is not among the classes of the '
                f'config, {self.metainfo["classes"]}; list it in metainfo='
                "dict(classes=...), or set unlisted_categories='ignore'"
            )
