"""Batches of a training loop, from any of them on."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, Dataset

from .randomness import seed_all

# (number of the batch, place in the batch, index in the data set)
Place = tuple[int, int, int]


def exact_loader(loader: DataLoader, batch_sampler: Any, start: int, *stream: int) -> DataLoader:
    """A loader of batches without end, from a given one on.

    The n-th batch has the same images and the same augmentations whether or
    not those before it were read, and with any number of workers; but for
    transforms that remember earlier samples (mmdet's CachedMosaic).

    Args:
        loader (DataLoader): whose data set and settings are taken.
        batch_sampler: that nobody has begun to read.
        start (int): number of the first batch, from 0.
        stream (int): what the random numbers follow from, beside the number of
            the batch.
    """
    workers = (
        dict(
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers,
            multiprocessing_context=loader.multiprocessing_context,
        )
        if loader.num_workers
        else {}
    )
    return DataLoader(
        _SeededDataset(loader.dataset, stream),
        batch_sampler=_NumberedBatches(batch_sampler, start),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        **workers,
    )


class _SeededDataset(Dataset):
    """Seeds the process before each sample, by the place of the sample."""

    def __init__(self, dataset: Dataset, stream: tuple[int, ...]) -> None:
        self.dataset, self.stream = dataset, stream

    def __getitem__(self, at: Place) -> Any:
        batch, position, index = at
        seed_all(*self.stream, batch, position)
        return self.dataset[index]


class _NumberedBatches:
    """Batches of indices without end, from a given one on."""

    def __init__(self, batch_sampler: Any, start: int) -> None:
        self.batch_sampler, self.start = batch_sampler, start

    def __iter__(self) -> Iterator[list[Place]]:
        for number, indices in islice(enumerate(self._endless()), self.start, None):
            yield [(number, position, index) for position, index in enumerate(indices)]

    def _endless(self) -> Iterator[list[int]]:
        epoch = 0
        while True:
            # Samplers that are endless themselves need no epoch.
            if hasattr(self.batch_sampler.sampler, 'set_epoch'):
                self.batch_sampler.sampler.set_epoch(epoch)
            yield from self.batch_sampler
            epoch += 1
