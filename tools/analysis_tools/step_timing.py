"""How long a model takes, and how long it waits for its data."""

import time
from collections.abc import Iterator
from typing import Callable

import numpy as np
import torch
from torch.utils.data import DataLoader


def batches(loader: DataLoader) -> Iterator[dict]:
    """Batches without end."""
    while True:
        yield from loader


def clock(device: torch.device) -> float:
    """Seconds, when the device has done what it was told."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def time_steps(
    step: Callable[[dict], object],
    source: Iterator[dict],
    device: torch.device,
    warm_up: int,
    steps: int,
) -> dict[str, float]:
    """Mean seconds of a step: waiting for its batch, and taking it.

    Args:
        step (callable): takes a batch.
        source (iterator): of batches.
        device (torch.device): of the model.
        warm_up (int): steps before those that count.
        steps (int): that count.
    """
    waited = worked = 0.0
    for number in range(warm_up + steps):
        start = clock(device)
        batch = next(source)
        ready = clock(device)
        step(batch)
        if number >= warm_up:
            waited += ready - start
            worked += clock(device) - ready
    return dict(data=waited / steps, model=worked / steps)


def seconds_a_batch(loader: DataLoader, batch_size: int, count: int = 3) -> float:
    """What one worker takes for a batch, measured in this process.

    Of images spread over the data set: a sampler's places are those of the
    training.
    """
    times = []
    places = np.linspace(0, len(loader.dataset) - 1, (count + 1) * batch_size).astype(int)
    for chosen in places.reshape(count + 1, batch_size):
        start = clock(torch.device('cpu'))
        loader.collate_fn([loader.dataset[int(i)] for i in chosen])
        times.append(clock(torch.device('cpu')) - start)
    return sum(times[1:]) / count  # the first opens files and imports


def seconds_an_image(
    step: Callable[[dict], object], loader: DataLoader, device: torch.device, count: int = 5
) -> float:
    """Mean over some batches of a loader, its waiting included."""
    times, images = [], []
    start = clock(device)
    for batch in loader:
        step(batch)
        images.append(len(batch['inputs']))
        times.append(clock(device) - start)
        start = clock(device)
        if len(times) > count:
            break
    first = len(times) > 1  # which waits for the workers to start
    return sum(times[first:]) / sum(images[first:])
