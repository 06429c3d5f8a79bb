"""Batches and random numbers that depend on the position in a run only."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

# Purposes of random numbers. The purpose is part of each stream, so that streams differ.
STEP, DATA, WORKER = 1, 2, 3

# (number of the batch, position in the batch, index in the data set)
SampleKey = tuple[int, int, int]


def seed_all(*stream: int) -> None:
    """Seed the generators of Python, NumPy and torch on all devices.

    Args:
        stream (int): non-negative numbers, such as seed, rank, purpose and iteration. Different
            streams give independent numbers, but trailing zeros do not change a stream
            (``numpy.random.SeedSequence``).
    """
    words = np.random.SeedSequence(stream).generate_state(4).tolist()
    random.seed(words[0])
    np.random.seed(words[1])
    torch.manual_seed(words[2] << 32 | words[3])


def seeded_loader(loader: DataLoader, batch_sampler: Any, start: int, *stream: int) -> DataLoader:
    """Make an endless loader that begins at a given batch.

    The n-th batch has the same images and the same augmentations for any start and any number of
    workers, except for transforms that remember earlier samples (mmdet's CachedMosaic).

    Args:
        loader (DataLoader): loader that provides the data set and the settings.
        batch_sampler: batch sampler that has not been iterated yet.
        start (int): number of the first batch, counted from 0.
        stream (int): numbers that determine the random numbers together with the number of the
            batch, see :func:`seed_all`.
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
    """Seed the process before each sample by the position of the sample."""

    def __init__(self, dataset: Dataset, stream: tuple[int, ...]) -> None:
        self.dataset, self.stream = dataset, stream

    def __getitem__(self, key: SampleKey) -> Any:
        batch, position, index = key
        seed_all(*self.stream, batch, position)
        return self.dataset[index]


class _NumberedBatches:
    """Iterate over batches of indices without end, beginning at batch ``start``."""

    def __init__(self, batch_sampler: Any, start: int) -> None:
        self.batch_sampler, self.start = batch_sampler, start

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for number, indices in islice(enumerate(self._endless()), self.start, None):
            yield [(number, position, index) for position, index in enumerate(indices)]

    def _endless(self) -> Iterator[list[int]]:
        epoch = 0
        while True:
            # Endless samplers have no set_epoch.
            if hasattr(self.batch_sampler.sampler, 'set_epoch'):
                self.batch_sampler.sampler.set_epoch(epoch)
            yield from self.batch_sampler
            epoch += 1
