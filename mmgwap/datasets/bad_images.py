"""Image files that cannot be read: an error, or skipped and counted.

A long training should not die of one truncated file, and a measurement should
not get better by it.
"""

import logging
from functools import partial
from typing import Callable, Optional

import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from torch import Tensor

from .image_files import blank_sample, why_bad
from .naming import naming

ON_BAD_IMAGE = ('error', 'skip')


class BadImages:
    """Mixin for a ``BaseDetDataset``: what is done about bad images.

    A bad image is a file that is there, and that Pillow cannot decode to its
    end: empty, truncated, something else, or above Pillow's limit of pixels.
    One that is missing, or may not be read, is an error whatever the option:
    more often than not it is ``data_root`` that is wrong.

    With 'skip' a bad image is named in a warning where it is first met and

    * in training another one takes its place, chosen at random;
    * with ``test_mode`` a blank one does, whose data sample has ``unreadable``
      in its metainfo.  ``BadImagesHook``, which has to be there, drops what is
      predicted of it, so that all that is on it counts as missed.

    Only what makes the pipeline fail is noticed.  Some versions of OpenCV, the
    default backend of ``LoadImageFromFile``, make a half grey image of a
    truncated file; set ``imdecode_backend='pillow'``.

    Args:
        on_bad_image (str): 'error' or 'skip'.

    Attributes:
        unreadable (Tensor): (len(self), ) uint8, 1 for a bad image met so far,
            in memory that loader workers share; with 'skip' alone.

    Raises:
        ValueError: if ``on_bad_image`` is something else.
        RuntimeError: with the image's path, if a sample cannot be made.
    """

    drops_predictions = False  # set by BadImagesHook

    def __init__(self, *args, on_bad_image: str = 'error', **kwargs) -> None:
        if on_bad_image not in ON_BAD_IMAGE:
            raise ValueError(f'on_bad_image must be one of {ON_BAD_IMAGE}, got {on_bad_image!r}')
        self.on_bad_image = on_bad_image
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        super().full_init()
        if self.on_bad_image == 'skip':
            self.unreadable = torch.zeros(len(self), dtype=torch.uint8).share_memory_()

    @property
    def bad_images(self) -> list[str]:
        """Paths of the bad images that this process and its workers met."""
        return bad_paths(self, self.unreadable) if self.on_bad_image == 'skip' else []

    def prepare_data(self, idx: int) -> Optional[dict]:
        return take_sample(self, idx, partial(self.get_data_info, idx), self.pipeline)

    def another_like(self, idx: int) -> int:
        return self._rand_another()

    def __getitem__(self, idx: int) -> dict:
        if self.test_mode:
            return super().__getitem__(idx)
        return draw_sample(self, idx, self.max_refetch + 1)


def take_sample(
    dataset: BaseDataset, idx: int, get_info: Callable[[], dict], pipeline: Callable
) -> Optional[dict]:
    """What a pipeline makes of an image, bad or not.

    Args:
        dataset: holds the image.  One without ``on_bad_image`` has 'error'.
        idx (int): the image's place in it.
        get_info (callable): gives its data info, a new one each time.
        pipeline (callable): makes a sample of that, or None.

    Returns:
        dict: the sample; None if another image has to be taken.

    Raises:
        RuntimeError: with the image's path.
    """
    info = get_info()
    path = info.get('img_path')
    checked = isinstance(dataset, BadImages)
    if not (checked and dataset.on_bad_image == 'skip' and dataset.unreadable[idx]):
        try:
            with naming(path):
                return pipeline(info)
        except RuntimeError:
            why = checked and why_bad(path, dataset.backend_args)
            if not why:
                raise
            _note(dataset, idx, path, why)
    if not dataset.test_mode:
        return None
    with naming(path):
        return blank_sample(get_info(), pipeline)


def _note(dataset: BadImages, idx: int, path: str, why: str) -> None:
    """Count a bad image and warn of it, if it may be skipped."""
    fix = ''
    if dataset.on_bad_image == 'error':
        fix = "repair the file, or set on_bad_image='skip'"
    elif dataset.test_mode and not dataset.drops_predictions:
        fix = (
            "on_bad_image='skip' with test_mode needs custom_hooks=[dict("
            "type='mmgwap.BadImagesHook')], or a blank image is measured"
        )
    if fix:
        raise RuntimeError(f'cannot prepare {path}: {why}; {fix}')
    dataset.unreadable[idx] = 1
    print_log(f'{path} cannot be read and is skipped: {why}', 'current', logging.WARNING)


def draw_sample(dataset, idx: int, tries: int) -> dict:
    """A sample of an image, or of others like it if there is none of that.

    Args:
        dataset: has ``prepare_data``, ``another_like`` and ``get_data_info``.
        idx (int): of the first image.
        tries (int): images at most.

    Raises:
        RuntimeError: if no image gave a sample.
    """
    for _ in range(tries):
        data = dataset.prepare_data(idx)
        if data is not None:
            return data
        last, idx = idx, dataset.another_like(idx)
    parts = skipping(dataset)
    count, total = (
        sum(len(part) for part in of) for of in ([part.bad_images for part in parts], parts)
    )
    raise RuntimeError(
        f'the pipeline gave no sample {tries} times, last for '
        f'{dataset.get_data_info(last).get("img_path")}'
        + (f'; {count} of {total} images could not be read' if count else '')
    )


def skipping(dataset) -> list[BadImages]:
    """The data sets, in whatever wrappers, that skip bad images."""
    if isinstance(dataset, BadImages):
        return [dataset] if dataset.on_bad_image == 'skip' else []
    # num_batch_per_epoch cuts a data set short; it passes other names on.
    for name in ('_dataset', 'dataset'):
        if hasattr(dataset, name):
            return skipping(getattr(dataset, name))
    return [leaf for part in getattr(dataset, 'datasets', ()) for leaf in skipping(part)]


def bad_paths(dataset: BadImages, unreadable: Tensor) -> list[str]:
    """Paths of images.

    Args:
        dataset: holds them.
        unreadable (Tensor): (len(dataset), ), not 0 for those wanted.
    """
    return [
        dataset.get_data_info(idx)['img_path'] for idx in unreadable.nonzero().flatten().tolist()
    ]
