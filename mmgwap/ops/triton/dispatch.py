"""Choose between Triton kernels and PyTorch's own operators.

``MMGWAP_KERNELS=auto``, the default, runs the kernels for tensors on a CUDA device;
``MMGWAP_KERNELS=off`` never runs them. A kernel is compared with the PyTorch form at its first use
(:func:`first_use_matches`); where they differ, the PyTorch form is used.
"""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Callable, ContextManager, Iterator

import torch
from torch import Tensor

MODES = ('auto', 'off')
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# The oldest GPUs that Triton compiles for, and the oldest Triton, that of torch 2.6.
CAPABILITY = (7, 0)
TRITON = (3, 2)

_mode = os.environ.get('MMGWAP_KERNELS', 'auto')
if _mode not in MODES:
    raise ValueError(f'MMGWAP_KERNELS must be one of {MODES}, got {_mode!r}')


def use_triton(*tensors: Tensor) -> bool:
    """Return whether Triton can run an operator on these tensors."""
    if _mode == 'off' or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():
        return False
    device = tensors[0].device
    if device.type != ('cpu' if _mode == 'interpret' else 'cuda'):
        return False
    supported = all(tensor.device == device and tensor.dtype in DTYPES for tensor in tensors)
    return supported and _is_available(device)


def triton_disabled() -> ContextManager:
    """Run operators in their PyTorch form within this context, as ``MMGWAP_KERNELS=off`` does."""
    return _set_mode('off')


def triton_interpreted() -> ContextManager:
    """Run kernels on CPU tensors within this context, slowly, in Triton's interpreter.

    Raises:
        RuntimeError: without ``TRITON_INTERPRET=1``, which has to be set before anything imports
            Triton.
    """
    if os.environ.get('TRITON_INTERPRET') != '1':
        raise RuntimeError('set TRITON_INTERPRET=1 before Python starts, to interpret kernels')
    return _set_mode('interpret')


@contextmanager
def _set_mode(mode: str) -> Iterator[None]:
    global _mode
    previous, _mode = _mode, mode
    try:
        yield
    finally:
        _mode = previous


_unavailable: dict[torch.device, str] = {}


@torch.compiler.assume_constant_result
def _is_available(device: torch.device) -> bool:
    """Return whether Triton imports and compiles for the device; if not, warn once."""
    if device not in _unavailable:
        _unavailable[device] = _why_unavailable(device)
        if _unavailable[device]:
            warnings.warn(
                f'{_unavailable[device]}: lip2d and ps_roi_vote run as slower PyTorch operators '
                f'on {device}'
            )
    return not _unavailable[device]


def _why_unavailable(device: torch.device) -> str:
    """Return what keeps the kernels from running, or '' if nothing does."""
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


_matches: dict[tuple, bool] = {}
_compare_first_use = True


def first_use_matches(
    name: str, device: torch.device, small_case: Callable[[], Sequence[Tensor]]
) -> bool:
    """Return whether a kernel and the PyTorch form agree, compared at the first use.

    Args:
        name (str): kind of call: operator, dtypes, layout and passes. The warning shows it. Each
            kind is compared once.
        device (torch.device): device of the tensors.
        small_case (callable): runs the operator on small tensors of its own and returns results and
            gradients.
    """
    if not _compare_first_use:
        return True
    if (name, device) in _matches:
        return _matches[name, device]
    if device.type == 'cuda' and torch.cuda.is_current_stream_capturing():
        return True  # nothing may synchronise during a capture: compare at a later call
    problem = _compare(small_case)
    _matches[name, device] = not problem
    if problem:
        warnings.warn(
            f'{name} on {device}: the Triton kernel {problem}; the PyTorch form is used instead'
        )
    return not problem


def _compare(small_case: Callable[[], Sequence[Tensor]]) -> str:
    """Return how the kernel fails, or '' if it equals the PyTorch form.

    The small case runs in a thread of its own, because autocast, the fake tensors of a compiler and
    the hooks of a checkpoint belong to the caller's thread.
    """
    global _compare_first_use
    _compare_first_use = False
    try:
        with ThreadPoolExecutor(1) as thread:
            try:
                results = thread.submit(small_case).result()
            except Exception as error:
                return f'fails ({type(error).__name__}: {error})'
            with triton_disabled():
                expected = thread.submit(small_case).result()
            return thread.submit(_difference, results, expected).result()
    finally:
        _compare_first_use = True


def _difference(results: Sequence[Tensor], expected: Sequence[Tensor]) -> str:
    for result, wanted in zip(results, expected):
        tolerance = max(1e-4, 8 * torch.finfo(wanted.dtype).eps)
        error = (result.double() - wanted.double()).abs().max()
        error = float(error / wanted.double().abs().max().clamp(min=1e-30))
        if not error <= tolerance:
            return f'differs by {error:.2g} of the largest value, {tolerance:.2g} is allowed'
    return ''
