"""Batches of images with and without boxes, so many of each."""

from collections.abc import Iterator

import numpy as np
from mmengine.dataset import InfiniteSampler
from mmengine.logging import print_log
from torch.utils.data import Sampler

from mmgwap.argument_checks import check_whole
from mmgwap.datasets.boxed_images import boxed_images
from mmgwap.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class PartialBoxBatchSampler(Sampler):
    """Batches with a fixed number of boxed images, which come first.

    An epoch ends where the first kind of images would repeat: no image occurs
    twice in it, on any process.  The other kind goes on where it was, in the
    next epoch, until fewer are left than an epoch takes; then both begin anew,
    in another order.  The order depends on seed and epoch alone.

    Args:
        sampler: the loader's ``DefaultSampler`` or ``InfiniteSampler``.  Its
            data set, seed, epoch, shuffling and share of the processes are
            used, its indices are not.  With ``InfiniteSampler`` epochs follow
            one another without end.
        batch_size (int): the loader's, of one process.
        boxed (int): images with boxes in a batch, 1 ... batch_size-1.

    Raises:
        ValueError: if ``boxed`` is outside of that, or there are too few
            images of a kind for one batch on each process.
    """

    def __init__(self, sampler: Sampler, batch_size: int, boxed: int) -> None:
        for name, value in (('boxed', boxed), ('batch_size', batch_size)):
            check_whole(value, f'PartialBoxBatchSampler: {name}', -(10**6))
        if not 0 < boxed < batch_size:
            raise ValueError(
                'PartialBoxBatchSampler: boxed must be at least 1 and less '
                f'than batch_size={batch_size}, got {boxed}'
            )
        self.sampler = sampler
        self.batch_size = batch_size
        mask = boxed_images(sampler.dataset)
        self._kinds = [(np.flatnonzero(mask), boxed), (np.flatnonzero(~mask), batch_size - boxed)]
        print_log(
            f'{mask.sum()} images with boxes, {boxed} in a batch of '
            f'{batch_size}; {(~mask).sum()} with image labels only, '
            f'{batch_size - boxed} in a batch',
            'current',
        )
        for (images, count), name in zip(self._kinds, ('with boxes', 'with image labels only')):
            if len(images) < count * sampler.world_size:
                raise ValueError(
                    f'PartialBoxBatchSampler: {len(images)} images {name} are '
                    f'too few for {count} in a batch on each of '
                    f'{sampler.world_size} processes'
                )

    def __len__(self) -> int:
        """Batches of one process in an epoch."""
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
        parts = [self._part(kind, epoch) for kind in range(2)]
        for rows in zip(*parts):
            yield np.concatenate(rows).tolist()

    def _part(self, kind: int, epoch: int) -> np.ndarray:
        """This process's images of one kind in an epoch, (batches, count)."""
        images, count = self._kinds[kind]
        world = self.sampler.world_size
        size = len(self) * world * count
        round_, place = divmod(epoch, len(images) // size)
        if self.sampler.shuffle:
            rng = np.random.RandomState([self.sampler.seed, kind, round_])
            images = rng.permutation(images)
        taken = images[place * size : (place + 1) * size]
        return taken.reshape(len(self), world, count)[:, self.sampler.rank]
