"""Check annotations when a data set is loaded.

mmdet drops some bad boxes silently, trains on others until the loss is NaN, and skips categories
that the config does not list.
"""

import logging

import numpy as np
from mmengine.logging import print_log

from .unreadable_images import UnreadableImageMixin

DEGENERATE = 'without area, inverted, not finite, huge or outside of the image'
MAX_COORDINATE = 2**24  # px; float32 cannot represent every integer above it
UNLABELLED = ('ignore', 'negative', 'error')


def is_degenerate(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    """Find boxes without area, inverted, not finite, huge or outside of the image.

    A box without area makes the logarithm in the box coder infinite and the loss NaN.

    Args:
        boxes (np.ndarray): (N, 4) rows of (x1, y1, x2, y2) in pixels.
        width, height (float): size of the image; infinite if unknown.

    Returns:
        np.ndarray: (N,) bool.

    Example:
        >>> is_degenerate([[0, 0, 9, 9], [5, 5, 5, 9], [70, 0, 90, 9]], width=64, height=48)
        array([False,  True,  True])
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    x1, y1, x2, y2 = boxes.T
    with np.errstate(invalid='ignore'):
        sides = np.minimum(x2 - x1, y2 - y1)
        inside = (x2 > 0) & (y2 > 0) & (x1 < width) & (y1 < height)
        good = inside & (sides > 0) & (np.abs(boxes) < MAX_COORDINATE).all(axis=1)
    return ~good


class AnnotationChecks(UnreadableImageMixin):
    """Mixin for a ``BaseDetDataset`` that checks annotations at loading time.

    * Degenerate boxes are dropped. One warning counts them and names the first file.
    * An object whose category the config does not list is an error. With
      ``unlisted_categories='ignore'`` it is skipped, for training on a subset of the classes.
    * An image with more than ``max_boxes_per_image`` boxes is an error.
    * A data set without images is an error.
    * Unreadable images are errors or skipped, see :class:`UnreadableImageMixin`.

    Args:
        unlisted_categories (str): 'error' or 'ignore'.
        max_boxes_per_image (int): limit that catches faulty exports. Training compares each box
            with each anchor, so a million boxes on one image would exhaust the memory. The
            largest detection data sets have some thousands.
        on_bad_image (str): 'error' or 'skip'.
    """

    def __init__(
        self, *args, unlisted_categories: str = 'error', max_boxes_per_image: int = 10000, **kwargs
    ) -> None:
        if unlisted_categories not in ('error', 'ignore'):
            raise ValueError(
                f"unlisted_categories must be 'error' or 'ignore', got {unlisted_categories!r}"
            )
        self.unlisted_categories = unlisted_categories
        self.max_boxes_per_image = max_boxes_per_image
        self._dropped = {}  # number of degenerate boxes by file
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        super().full_init()
        if self._dropped:
            print_log(
                f'{self.ann_file}: dropped {sum(self._dropped.values())} boxes {DEGENERATE}, in '
                f'{len(self._dropped)} images, the first in {next(iter(self._dropped))}',
                'current',
                logging.WARNING,
            )

    def filter_data(self) -> list[dict]:
        data_list = super().filter_data()
        if not data_list:
            raise ValueError(
                f'{self.ann_file}: no image left to {"test" if self.test_mode else "train"} on '
                f'(filter_cfg={self.filter_cfg}, classes={self.metainfo["classes"]})'
            )
        return data_list

    def _check_category(self, name: str, where: str) -> None:
        """Raise ValueError if the config does not list the category of an object."""
        if self.unlisted_categories == 'error' and name not in self.metainfo['classes']:
            raise ValueError(
                f'{where}: category {name!r} is not among the classes of the config, '
                f'{self.metainfo["classes"]}; add it to metainfo=dict(classes=...), or set '
                "unlisted_categories='ignore'"
            )

    def _check_box_count(self, count: int, where: str) -> None:
        """Raise ValueError if an image has more boxes than ``max_boxes_per_image``."""
        if count > self.max_boxes_per_image:
            raise ValueError(
                f'{where}: has {count} boxes, more than max_boxes_per_image='
                f'{self.max_boxes_per_image}; correct the file or raise the limit'
            )


def check_classes(metainfo: dict, dataset: str) -> tuple[str, ...]:
    """Return the class names of a data set.

    Args:
        metainfo (dict): metainfo of the data set.
        dataset (str): name of the data set, for errors.

    Raises:
        ValueError: if ``metainfo['classes']`` is missing, is not a list of names, or repeats a
            name.
    """
    classes = metainfo.get('classes')
    # A plain string would give a class per letter, and ('cat') is a plain string.
    if (
        not isinstance(classes, (list, tuple))
        or not classes
        or not all(isinstance(name, str) for name in classes)
    ):
        raise ValueError(
            f"{dataset}: metainfo=dict(classes=('cat', ...)) must be a list of names, "
            f'got {classes!r:.80}'
        )
    repeated = [name for name in classes if classes.count(name) > 1]
    if repeated:
        raise ValueError(
            f'{dataset}: metainfo=dict(classes=...) lists {repeated[0]!r} {len(repeated)} times'
        )
    return tuple(classes)


def check_unlabelled(images: list, unlabelled: str, where: str) -> None:
    """Warn about images that have neither boxes nor labels.

    Args:
        images (list): ids or paths of these images.
        unlabelled (str): 'ignore', 'negative' or 'error'.
        where (str): name of the data set.

    Raises:
        ValueError: if there are such images and ``unlabelled`` is 'error'.
    """
    if not images:
        return
    message = f'{where}: {len(images)} images have neither boxes nor labels, such as {images[0]}'
    if unlabelled == 'error':
        raise ValueError(
            f"{message}; unlabelled='ignore' excludes them from the loss, unlabelled='negative' "
            'trains on them as images without any class'
        )
    effect = 'give no loss' if unlabelled == 'ignore' else 'count as negative for every class'
    print_log(f'{message}; they {effect}', 'current', logging.WARNING)
