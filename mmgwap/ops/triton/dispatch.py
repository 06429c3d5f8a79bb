"""Whether Triton kernels or PyTorch's own operators do the work.

``MMGWAP_KERNELS=auto``, the default, takes the kernels for tensors on a CUDA
device; ``MMGWAP_KERNELS=off`` never does.
"""

import os
import warnings
from contextlib import contextmanager
from typing import ContextManager, Iterator

import torch
from torch import Tensor

MODES = ('auto', 'off')
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# The oldest GPUs that Triton compiles for, and the oldest Triton, torch 2.6's.
CAPABILITY = (7, 0)
TRITON = (3, 2)

_mode = os.environ.get('MMGWAP_KERNELS', 'auto')
if _mode not in MODES:
    raise ValueError(f'MMGWAP_KERNELS must be one of {MODES}, got {_mode!r}')


@contextmanager
def _set(mode: str) -> Iterator[None]:
    global _mode
    before, _mode = _mode, mode
    try:
        yield
    finally:
        _mode = before


def triton_disabled() -> ContextManager:
    """Within, operators run in their PyTorch form, as ``MMGWAP_KERNELS=off``
    has it: to compare the two."""
    return _set('off')


def triton_interpreted() -> ContextManager:
    """Within, tensors on a CPU take the kernels too, which Triton's interpreter
    then runs, slowly: to test them without a GPU.

    Raises:
        RuntimeError: without ``TRITON_INTERPRET=1``, which has to be set before
            anything imports Triton.
    """
    if os.environ.get('TRITON_INTERPRET') != '1':
        raise RuntimeError('set TRITON_INTERPRET=1 before Python starts, to interpret kernels')
    return _set('interpret')


def use_triton(*tensors: Tensor) -> bool:
    """Whether an operator on these tensors runs as a Triton kernel."""
    if _mode == 'off' or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():
        return False
    device = tensors[0].device
    if device.type != ('cpu' if _mode == 'interpret' else 'cuda'):
        return False
    return all(one.device == device and one.dtype in DTYPES for one in tensors) and _ready(device)


_reasons = {}


@torch.compiler.assume_constant_result
def _ready(device: torch.device) -> bool:
    """Whether Triton is there and compiles for the device; if not, a warning
    says why, once."""
    if device not in _reasons:
        _reasons[device] = _why_not(device)
        if _reasons[device]:
            warnings.warn(
                f'{_reasons[device]}: lip2d and ps_roi_vote run as '
                'PyTorch operators on this GPU, which is slower'
            )
    return not _reasons[device]


def _why_not(device: torch.device) -> str:
    """What keeps the kernels from running, '' if nothing."""
    try:
        import triton
    except ImportError as error:
        return f'Triton does not import ({error})'
    version = triton.__version__.split('.')
    if tuple(map(int, version[:2])) < TRITON:
        return 'Triton {} is older than {}.{}'.format(triton.__version__, *TRITON)
    if device.type == 'cuda':
        capability = torch.cuda.get_device_capability(device)
        if capability < CAPABILITY:
            return 'Triton needs compute capability {}.{}, {} has {}.{}'.format(
                *CAPABILITY, torch.cuda.get_device_name(device), *capability
            )
        try:
            _ = triton.runtime.driver.active.utils  # compiled at its first use
        except Exception as error:
            return f'Triton does not start ({error})'
    return ''
