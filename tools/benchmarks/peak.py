"""Peak memory of a call, beyond what was there before."""

from typing import Callable

import torch


def peak_bytes(function: Callable[[], None], device: torch.device) -> int:
    """The most bytes at one time that a call asks for, beyond those before it.

    On a GPU as torch's allocator counts them; on a CPU from the profiler's
    list of all that was allocated and freed, by operators in C++ too.  What a
    library takes past torch's allocators (workspaces of oneDNN, for one) is
    not seen.
    """
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        function()
    changes = [
        event for event in profile.profiler.kineto_results.events() if event.name() == '[memory]'
    ]
    now = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
