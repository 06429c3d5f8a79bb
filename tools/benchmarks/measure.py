"""Check that contenders are equal, then measure time, peak memory and share of the bandwidth."""

import time
import tracemalloc
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Callable

import numpy as np
import torch
from case import Call, Case, Contender
from torch import Tensor
from torch.utils.benchmark import Timer

# Allowed difference, relative to the largest value.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 6e-2, torch.float16: 8e-3}
MIN_BLOCK_SECONDS = dict(cpu=0.005, cuda=0.01)
SLOW_SECONDS, SLOW_TURNS = 0.5, 3
COPY_BYTES = dict(cpu=2**27, cuda=2**30)


class UnequalResult(Exception):
    """Raised if a contender computes other values than the first contender."""


def run_case(case: Case, device: torch.device, turns: int, bandwidth: float) -> dict:
    """Build the contenders of a case, check them against the first and measure them.

    Args:
        turns: number of blocks of calls per contender.
        bandwidth: bytes per second of a copy, see :func:`copy_bandwidth`.

    Returns:
        dict: ``group``, ``title``, ``point``, ``rows`` by contender, and ``targets``. A row
        holds times, peak memory and share of the bandwidth, or a ``failure``.

    Raises:
        UnequalResult: if output or gradients differ by more than rounding.
    """
    rows = {name: {} for name in case.contenders}
    contenders = build_contenders(case, rows)
    time_contenders(contenders, rows, device, turns)
    first = rows[next(iter(rows))].get('median_ms')
    for name, contender in contenders.items():
        row = rows[name]
        if 'failure' in row:
            continue
        if first:
            row['ratio'] = row['median_ms'] / first
        if contender.min_bytes:
            row['bandwidth_share'] = contender.min_bytes / bandwidth / (1e-3 * row['median_ms'])
        measure_peak = python_peak_bytes if case.memory == 'python' else torch_peak_bytes
        peak = attempt(partial(measure_peak, contender.call, device), row)
        row['peak_bytes'] = None if peak is None else peak + contender.held_bytes
    targets = [target.judge(rows) for target in case.targets]
    point = case.point._asdict() if case.point else None
    return dict(group=case.group, title=case.title, point=point, rows=rows, targets=targets)


def build_contenders(case: Case, rows: dict) -> dict[str, Contender]:
    """Build the contenders from the same random seed and check them against the first."""
    contenders, expected = {}, None
    for name, build in case.contenders.items():
        torch.manual_seed(0)
        contender = attempt(build, rows[name])
        if contender is None:
            continue
        if contender.values is not None:
            expected = expected or contender.values
            check_equal(contender.values, expected, f'{case.name}: {name}')
        contenders[name] = contender._replace(values=None)
    return contenders


def attempt(function: Callable, row: dict):
    """Call a function; on an error, note the ``failure`` in the row and return None."""
    try:
        return function()
    except Exception as error:
        lines = str(error).strip().splitlines() or ['']
        row['failure'] = f'{type(error).__name__}: {lines[0]}'


def check_equal(found: Sequence[Tensor], expected: Sequence[Tensor], name: str) -> None:
    """Raise UnequalResult unless outputs and gradients agree, up to the gradients' layout."""
    for index, (value, reference) in enumerate(zip(found, expected)):
        label = f'{name}: ' + (f'gradient {index}' if index else 'output')
        if value.numel() != reference.numel() or not index and value.shape != reference.shape:
            raise UnequalResult(f'{label} has shape {[*value.shape]}, not {[*reference.shape]}')
        allowed = max(TOLERANCES[value.dtype], TOLERANCES[reference.dtype])
        difference = value.double().reshape(reference.shape) - reference.double()
        error = float(difference.abs().max() / reference.double().abs().max().clamp(min=1e-300))
        if not error <= allowed:  # NaN fails too
            raise UnequalResult(f'{label} has relative error {error:.3g}, allowed is {allowed:g}')


def time_contenders(contenders: dict, rows: dict, device: torch.device, turns: int) -> None:
    """Time contenders that take turns, so that a change of the machine's speed meets all of them.

    A turn is a block of calls between two synchronisations. The rows receive median and
    quartiles over the blocks; a contender that raises an error is left out.
    """
    blocks = {name: [] for name in contenders}
    warm_up = [
        attempt(partial(seconds_of, call, device), rows[name])
        for name, (call, *_) in contenders.items()
    ]
    if max((seconds or 0 for seconds in warm_up), default=0) > SLOW_SECONDS:
        turns = min(turns, SLOW_TURNS)
    threads = torch.get_num_threads()
    for _ in range(turns):
        for name, (call, *_) in contenders.items():
            if 'failure' not in rows[name]:
                timer = Timer('call()', globals=dict(call=call), num_threads=threads)
                run = partial(timer.blocked_autorange, min_run_time=MIN_BLOCK_SECONDS[device.type])
                measurement = attempt(run, rows[name])
                blocks[name] += measurement.times if measurement else []
    for name, seconds in blocks.items():
        if 'failure' not in rows[name]:
            low, median, high = (1e3 * np.percentile(seconds, (25, 50, 75))).tolist()
            rows[name].update(median_ms=median, quartiles_ms=[low, high], blocks=len(seconds))


def seconds_of(call: Call, device: torch.device) -> float:
    start = time.perf_counter()
    call()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def torch_peak_bytes(call: Call, device: torch.device) -> int:
    """Return the peak of the memory that a call takes from torch's allocator.

    On a CPU the profiler lists every allocation, also inside of C++ operators. Workspaces
    that libraries such as oneDNN allocate by themselves are not counted.
    """
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        call()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == '[memory]']
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(sizes, initial=0))


def python_peak_bytes(call: Call, device: torch.device) -> int:
    """Return the peak of the memory that a call allocates in Python and NumPy."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def copy_bandwidth(device: torch.device, turns: int) -> float:
    """Return the bytes per second, read plus written, of a copy larger than the caches."""
    source = torch.ones(COPY_BYTES[device.type] // 4, device=device)
    target, rows = torch.empty_like(source), dict(copy={})
    time_contenders(dict(copy=Contender(lambda: target.copy_(source))), rows, device, turns)
    return 2 * source.nbytes / (1e-3 * rows['copy']['median_ms'])
