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
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable
from unittest import mock

import mmengine.runner.checkpoint as host
import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer

STATISTICS = ('min', 'max', 'mean', 'current')


def allow_training_state() -> None:
    """Let ``torch.load(weights_only=True)`` read mmengine's training state.

    numpy's own constructors are not on the list: with an object dtype they
    turn bytes of a file into pointers.
    """
    if hasattr(host, 'get_torch_safe_globals'):
        # torch keeps what is allowed in a set, so that of the fork's list and
        # of this one an arbitrary mixture would hold, which reads neither.
        host.get_torch_safe_globals = list
    # Each with its path: plain classes the fork would take off the list again
    # after a load of its own.
    safe = [
        (HistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (_statistics_method, 'builtins.getattr'),
        (_NumericDtype, 'numpy.dtype'),
        (_NumericArray, 'numpy.ndarray'),
    ]
    for name in ('core', '_core'):  # numpy 2 moved them
        safe += [
            (_empty_array, f'numpy.{name}.multiarray._reconstruct'),
            (_numeric_scalar, f'numpy.{name}.multiarray.scalar'),
        ]
    torch.serialization.add_safe_globals(safe)


def _statistics_method(owner: type, name: str) -> Callable:
    """All that a ``HistoryBuffer`` needs ``getattr`` for in its pickle."""
    if owner is HistoryBuffer and name in STATISTICS:
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'Unsupported global: getattr({owner!r}, {name!r})')


class _NumericDtype:
    """What a pickled dtype becomes: a number's kind and byte order."""

    def __init__(self, kind: str, *flags) -> None:
        if not re.fullmatch(r'[biufc]\d{1,2}', str(kind)):
            raise pickle.UnpicklingError(f'Unsupported global: numpy.dtype({kind!r})')
        self.kind, self.order = str(kind), '='

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1] if state[1] in ('<', '>') else '='

    def to_numpy(self) -> np.dtype:
        return np.dtype(self.kind).newbyteorder(self.order)


class _NumericArray(np.ndarray):
    """An array that can be filled from a pickle with numbers alone."""

    def __new__(cls, *ignored):
        return super().__new__(cls, (0,))

    def __setstate__(self, state: tuple) -> None:
        version, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _NumericDtype) or not isinstance(data, bytes):
            raise pickle.UnpicklingError('Unsupported global: numpy.ndarray of other than numbers')
        super().__setstate__((version, shape, dtype.to_numpy(), is_fortran, data))

    def __reduce__(self) -> tuple:
        # Saved again, it is an ordinary array.
        return self.view(np.ndarray).__reduce__()


def _empty_array(kind: type, *ignored) -> _NumericArray:
    return _NumericArray()


def _numeric_scalar(dtype: _NumericDtype, data: bytes) -> np.generic:
    if not isinstance(dtype, _NumericDtype):
        raise pickle.UnpicklingError('Unsupported global: numpy scalar of other than numbers')
    return np.frombuffer(data, dtype.to_numpy(), count=1)[0]


@contextmanager
def safe_checkpoints() -> Iterator[None]:
    """Within it, no checkpoint runs code; one that would ends the process.

    For command-line tools.  What asks for an unrestricted load gets a safe one
    all the same.
    """
    forced = mock.patch.dict(os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD='1')
    try:
        with forced:
            # torch takes both at once for a mistake.
            os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
            yield
    except pickle.UnpicklingError as error:
        sys.exit(_explain(str(error)))


def _explain(message: str) -> str:
    """torch's message, of a dozen lines, in one."""
    lines = [line.strip() for line in message.strip().splitlines()]
    for line in lines:
        if 'GLOBAL' in line or 'Unsupported global' in line:
            return (
                'refused to read the checkpoint: it holds more than '
                f'weights and training state, and could run code. {line}'
            )
    return f'cannot read the checkpoint: {lines[-1] if lines else "no data"}'
