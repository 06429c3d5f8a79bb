"""Batches with a fixed number of images with boxes."""

import warnings
from collections.abc import Iterator
from typing import Optional

import numpy as np
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, InfiniteSampler, RepeatDataset
from mmengine.logging import print_log
from torch.utils.data import Sampler

from mmgwap.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class PartialBoxBatchSampler(Sampler):
    """Sample batches with a fixed number of images with boxes, which come first.

    An epoch ends when the first kind of images, with or without boxes, is used up: no image occurs
    twice in an epoch, on any process. The next epoch continues with unused images of the other
    kind. When fewer of them are left than an epoch needs, that kind starts again in another order.
    The order depends on seed and epoch only.

    Args:
        sampler: ``DefaultSampler`` or ``InfiniteSampler`` of the loader. Its data set, seed, epoch,
            shuffling, rank and world size are used; its indices are not. With ``InfiniteSampler``
            epochs follow one another without end.
        batch_size (int): size of the batch on one process.
        num_boxed (int): number of images with boxes in a batch, from 1 to ``batch_size - 1``.
        boxed (int): deprecated name of ``num_boxed``.

    Raises:
        ValueError: if ``num_boxed`` is out of range, if both or neither of ``num_boxed`` and
            ``boxed`` are given, or if there are too few images of a kind for one batch on each
            process.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        num_boxed: Optional[int] = None,
        boxed: Optional[int] = None,
    ) -> None:
        if (num_boxed is None) == (boxed is None):
            raise ValueError(
                'PartialBoxBatchSampler: give num_boxed, or its deprecated name boxed, but not '
                f'both; got num_boxed={num_boxed} and boxed={boxed}'
            )
        if boxed is not None:
            warnings.warn('PartialBoxBatchSampler: boxed= is now num_boxed=', DeprecationWarning)
            num_boxed = boxed
        if type(num_boxed) is not int or not 0 < num_boxed < batch_size:
            raise ValueError(
                'PartialBoxBatchSampler: num_boxed must be an int from 1 to '
                f'batch_size - 1 = {batch_size - 1}, got {num_boxed!r}'
            )
        self.sampler = sampler
        self.batch_size = batch_size
        mask = boxed_images(sampler.dataset)
        num_others = batch_size - num_boxed
        self._kinds = [(np.flatnonzero(mask), num_boxed), (np.flatnonzero(~mask), num_others)]
        print_log(
            f'{mask.sum()} images with boxes, {num_boxed} in a batch of {batch_size}; '
            f'{(~mask).sum()} with image labels only, {num_others} in a batch',
            'current',
        )
        for (images, count), name in zip(self._kinds, ('with boxes', 'with image labels only')):
            if len(images) < count * sampler.world_size:
                raise ValueError(
                    f'PartialBoxBatchSampler: {len(images)} images {name} are too few for {count} '
                    f'in a batch on each of {sampler.world_size} processes'
                )

    def __len__(self) -> int:
        """Return the number of batches of one process in an epoch."""
        return min(
            len(images) // (count * self.sampler.world_size) for images, count in self._kinds
        )

    def __iter__(self) -> Iterator[list[int]]:
        if not isinstance(self.sampler, InfiniteSampler):
            yield from self._epoch(self.sampler.epoch)
            return
        epoch = 0
        while True:
            yield from self._epoch(epoch)
            epoch += 1

    def _epoch(self, epoch: int) -> Iterator[list[int]]:
        for rows in zip(self._part(0, epoch), self._part(1, epoch)):
            yield np.concatenate(rows).tolist()

    def _part(self, kind: int, epoch: int) -> np.ndarray:
        """Return the images of a kind for this process in an epoch, (batches, count)."""
        images, count = self._kinds[kind]
        world_size = self.sampler.world_size
        size = len(self) * world_size * count
        # Several epochs share one order of the images.
        order, position = divmod(epoch, len(images) // size)
        if self.sampler.shuffle:
            rng = np.random.RandomState([self.sampler.seed, kind, order])
            images = rng.permutation(images)
        part = images[position * size : (position + 1) * size]
        return part.reshape(len(self), world_size, count)[:, self.sampler.rank]


def boxed_images(dataset) -> np.ndarray:
    """Return which images of a data set have boxes.

    Args:
        dataset: data set of mmgwap or mmdet, in any wrappers of mmengine. All images of a data set
            without the attribute ``boxed`` have boxes.

    Returns:
        np.ndarray: (len(dataset), ) bool.
    """
    if isinstance(dataset, ConcatDataset):
        return np.concatenate([boxed_images(part) for part in dataset.datasets])
    if isinstance(dataset, RepeatDataset):
        return np.tile(boxed_images(dataset.dataset), dataset.times)
    if isinstance(dataset, ClassBalancedDataset):
        return boxed_images(dataset.dataset)[dataset.repeat_indices]
    # num_batch_per_epoch wraps the data set to shorten it.
    if hasattr(dataset, '_dataset'):
        return boxed_images(dataset._dataset)[: len(dataset)]
    return getattr(dataset, 'boxed', np.ones(len(dataset), dtype=bool))
