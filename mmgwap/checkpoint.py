"""Checkpoints without arbitrary unpickling.

``torch.load`` refuses by default, since 2.6, whatever is not tensors and plain
containers, and a checkpoint of mmengine has a little more in it: the history
of the losses.  mmengine 0.10.7 cannot resume for that reason.  Its maintained
fork allows ``getattr`` among others, through which a pickle reaches ``exec``,
and where that does not do it loads without any restriction.  Here the few
classes are allowed, and nothing else.
"""
import os
import pickle
import sys
from contextlib import contextmanager, nullcontext
from typing import Callable, Iterator
from unittest import mock

import mmengine.runner.checkpoint as host
import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from packaging.version import Version

STATISTICS = ('min', 'max', 'mean', 'current')


def allow_training_state() -> None:
    """Let ``torch.load(weights_only=True)`` read mmengine's training state."""
    if Version(torch.__version__) < Version('2.6'):
        return  # weights_only is not the default there
    core = np._core if hasattr(np, '_core') else np.core
    dtypes = {type(np.dtype(kind)) for kind in 'fdbilqBILQ?'}
    # Each with its path: plain classes the fork would take off the list again
    # after a load of its own.
    safe = [(kind, f'{kind.__module__}.{kind.__qualname__}')
            for kind in (HistoryBuffer, np.ndarray, np.dtype, *dtypes)]
    safe += [(_statistics_method, 'builtins.getattr')]
    # numpy 2 moved these, and either name may stand in a checkpoint.
    for name in ('core', '_core'):
        safe += [(getattr(core.multiarray, function),
                  f'numpy.{name}.multiarray.{function}')
                 for function in ('_reconstruct', 'scalar')]
    torch.serialization.add_safe_globals(safe)


def _statistics_method(owner: type, name: str) -> Callable:
    """All that a ``HistoryBuffer`` needs ``getattr`` for in its pickle."""
    if owner is HistoryBuffer and name in STATISTICS:
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(
        f'Unsupported global: getattr({owner!r}, {name!r})')


@contextmanager
def safe_checkpoints() -> Iterator[None]:
    """Within it, no checkpoint runs code; one that would ends the process.

    For command-line tools.  What asks for an unrestricted load gets a safe one
    all the same, and the fork's own list of what is safe is set aside.
    """
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    fork = mock.patch.object(host, 'get_torch_safe_globals', list) \
        if hasattr(host, 'get_torch_safe_globals') else nullcontext()
    try:
        with fork:
            yield
    except pickle.UnpicklingError as error:
        lines = str(error).strip().splitlines()
        culprit = [line for line in lines
                   if 'GLOBAL' in line or 'Unsupported' in line]
        sys.exit('refused to read the checkpoint: it holds more than weights '
                 'and training state, and could run code. '
                 + (culprit or lines)[0].strip())
