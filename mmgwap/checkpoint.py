"""Checkpoints without arbitrary unpickling.

``torch.load`` refuses by default, since 2.6, whatever is not tensors and plain
containers, and a checkpoint of mmengine has a little more in it: the history
of the losses.  mmengine 0.10.7 cannot resume for that reason; its maintained
fork falls back to loading without any restriction, which runs whatever code a
checkpoint brings along.  Here the few classes are allowed, and nothing else.
"""
import os
import pickle
import sys
from contextlib import contextmanager
from typing import Iterator

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer


def allow_training_state() -> None:
    """Let ``torch.load(weights_only=True)`` read mmengine's training state."""
    if not hasattr(torch.serialization, 'add_safe_globals'):
        return  # older than torch 2.4: weights_only is not the default either
    core = np._core if hasattr(np, '_core') else np.core
    reconstruct, scalar = (core.multiarray._reconstruct,
                           core.multiarray.scalar)
    dtypes = {type(np.dtype(kind)) for kind in 'fdbilqBILQ?'}
    safe = [HistoryBuffer, np.ndarray, np.dtype, *dtypes, reconstruct, scalar]
    # Under numpy 2 what numpy 1 wrote, and the reverse, has another path.
    safe += [(reconstruct, f'numpy.{name}.multiarray._reconstruct')
             for name in ('core', '_core')]
    safe += [(scalar, f'numpy.{name}.multiarray.scalar')
             for name in ('core', '_core')]
    torch.serialization.add_safe_globals(safe)


@contextmanager
def safe_checkpoints() -> Iterator[None]:
    """Within it, no checkpoint runs code; one that would ends the process.

    For command-line tools.  What asks for an unrestricted load, as mmengine's
    fork does when a safe one fails, gets a safe one all the same.
    """
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    try:
        yield
    except pickle.UnpicklingError as error:
        lines = str(error).strip().splitlines()
        culprit = [line for line in lines if 'Unsupported' in line]
        sys.exit('refused to read the checkpoint: it holds more than weights '
                 'and training state, and could run code. '
                 + (culprit or lines)[0].strip())
