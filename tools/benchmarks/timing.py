"""Timing: warm-up, turns, medians and quartiles."""

import math
import statistics
import time
from typing import Callable, NamedTuple, Union

import torch

# A stretch of calls lasts so long at least, so that neither the clock nor the
# first launch counts.
STRETCH_MS = dict(cpu=5.0, cuda=20.0)
MOST_CALLS = 1000
SLOW_MS = 1000.0  # one call of warm-up is enough


class Times(NamedTuple):
    """Milliseconds of a call, one value a stretch of ``calls`` calls."""

    values: list[float]
    calls: int

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third, within what was measured."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method='inclusive')
        return low, high


class Failure(NamedTuple):
    """Why there is no time, in one line."""

    reason: str


def measure(
    contenders: dict[str, Callable[[], None]], device: torch.device, runs: int
) -> dict[str, Union[Times, Failure]]:
    """Time functions side by side.

    They take turns, so that a machine that slows down slows all of them, and
    their ratios stay good where their times do not.  A turn is a stretch of
    calls without a pause.  On a GPU it lies between two events of the queue:
    what is measured is the time that a call adds to a queue of such calls,
    with the gaps that the launches leave where the GPU is faster than they
    are.  On a CPU it is the clock on the wall.

    A function that fails is left out from then on, and the reason is told.
    """
    found, calls = {}, {}
    for name, function in contenders.items():
        try:
            calls[name] = _warm_up(function, device)
            found[name] = Times([], calls[name])
        except Exception as error:
            found[name] = failure(error)
    for _ in range(runs):
        for name, function in contenders.items():
            if isinstance(found[name], Failure):
                continue
            try:
                found[name].values.append(_stretch(function, calls[name], device))
            except Exception as error:
                found[name] = failure(error)
    return found


def failure(error: Exception) -> Failure:
    """The first line of an error; what runs out of memory says so first."""
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else ''
    name = (
        'out of memory'
        if isinstance(error, (MemoryError, torch.OutOfMemoryError))
        else type(error).__name__
    )
    return Failure(f'{name}: {first}' if first else name)


def _warm_up(function: Callable[[], None], device: torch.device) -> int:
    """Call until caches and compilers are done; returns calls a stretch."""
    first = _stretch(function, 1, device)
    if first > SLOW_MS:
        return 1
    once = _stretch(function, 1, device)
    wanted = STRETCH_MS[device.type] / max(once, 1e-6)
    calls = min(MOST_CALLS, max(1, math.ceil(wanted)))
    _stretch(function, calls, device)
    return calls


def _stretch(function: Callable[[], None], calls: int, device: torch.device) -> float:
    """Milliseconds a call."""
    if device.type == 'cuda':
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(calls):
            function()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / calls
    begin = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - begin) * 1e3 / calls
