"""``torch.ops.mmgwap.lip2d``: LIP as a custom operator that runs Triton kernels.

The operator has a fake (meta) implementation and a gradient, so that autograd, ``torch.compile``
and ``torch.export`` see one node.
"""

from typing import List, Tuple, Union

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..windows import is_channels_last, window_axes
from . import lip_kernels

# Rows of a column that a program walks down, and lanes of a program. With channels last a thread
# has four lanes, read by one instruction. Chosen by counting instructions, not by timing.
ROWS = 8
LANES = {torch.contiguous_format: 128, torch.channels_last: 512}
WARPS = 4


@torch.library.custom_op('mmgwap::lip2d', mutates_args=())
def lip2d(
    x: Tensor,
    logit: Tensor,
    kernel_size: List[int],
    stride: List[int],
    padding: List[int],
    ceil_mode: bool,
    keep: bool,
    gate: float,
) -> Tuple[Tensor, Tensor, Tensor]:
    """Pool as :func:`mmgwap.ops.lip2d` does.

    Args:
        keep (bool): whether to compute what a backward pass reads.
        gate (float): gate of the logits, 0 for no gate.

    Returns:
        tuple[Tensor, Tensor, Tensor]: the result; and, empty unless ``keep``, the unrounded result
        and the logarithm of the sum of weights.
    """
    out, mean, log_sum = _empty_results(
        x, logit, kernel_size, stride, padding, ceil_mode, keep, gate
    )
    if out.numel():
        logit = logit.expand(x.shape)
        _launch(
            lip_kernels.forward,
            (x, logit, out, mean, log_sum),
            out,
            (x.size(2), x.size(3), *out.shape[2:]),
            (x, logit, out),
            (kernel_size, stride, padding),
            mean.dtype,
            KEEP=keep,
            GATE=gate,
        )
    return out, mean, log_sum


@lip2d.register_fake
def _empty_results(
    x: Tensor,
    logit: Tensor,
    kernel_size: List[int],
    stride: List[int],
    padding: List[int],
    ceil_mode: bool,
    keep: bool,
    gate: float,
) -> Tuple[Tensor, Tensor, Tensor]:
    axes = window_axes(x.shape[2:], tuple(kernel_size), tuple(stride), tuple(padding), ceil_mode)
    shape = (*x.shape[:2], axes[0].windows, axes[1].windows)
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_layout(x))
    dtype = torch.promote_types(torch.promote_types(x.dtype, logit.dtype), torch.float32)
    mean, log_sum = (
        torch.empty_like(out, dtype=dtype) if keep else out.new_empty(0, dtype=dtype)
        for _ in range(2)
    )
    return out, mean, log_sum


@torch.library.custom_op('mmgwap::lip2d_backward', mutates_args=())
def lip2d_backward(
    grad: Tensor,
    x: Tensor,
    logit: Tensor,
    mean: Tensor,
    log_sum: Tensor,
    kernel_size: List[int],
    stride: List[int],
    padding: List[int],
    gate: float,
    needs_grad_logit: bool,
) -> Tuple[Tensor, Tensor]:
    """Compute the gradient of x and, with ``needs_grad_logit``, that of the logit."""
    grad_x, grad_logit = _empty_gradients(
        grad, x, logit, mean, log_sum, kernel_size, stride, padding, gate, needs_grad_logit
    )
    if not x.numel():
        return grad_x, grad_logit.zero_()
    # The gradient of a logit that broadcasts is summed after the kernel, unrounded.
    broadcasts = needs_grad_logit and logit.shape != x.shape
    full_grad_logit = torch.empty_like(grad_x, dtype=mean.dtype) if broadcasts else grad_logit
    # The kernel reads the gradient with the strides of the mean, whatever the layout of x.
    grad = grad.contiguous(memory_format=_layout(mean))
    logit = logit.expand(x.shape)
    _launch(
        lip_kernels.backward,
        (grad, x, logit, mean, log_sum, grad_x, full_grad_logit),
        grad_x,
        (x.size(2), x.size(3), *mean.shape[2:]),
        (x, logit, mean, grad_x),
        (kernel_size, stride, padding),
        mean.dtype,
        GRAD_LOGIT=needs_grad_logit,
        GATE=gate,
    )
    if broadcasts:
        grad_logit.copy_(full_grad_logit.sum_to_size(grad_logit.shape))
    return grad_x, grad_logit


@lip2d_backward.register_fake
def _empty_gradients(
    grad: Tensor,
    x: Tensor,
    logit: Tensor,
    mean: Tensor,
    log_sum: Tensor,
    kernel_size: List[int],
    stride: List[int],
    padding: List[int],
    gate: float,
    needs_grad_logit: bool,
) -> Tuple[Tensor, Tensor]:
    layout = _layout(x)
    grad_x = torch.empty_like(x, memory_format=layout)
    if not needs_grad_logit:
        return grad_x, logit.new_empty(0)
    return grad_x, torch.empty_like(logit, memory_format=layout)


def _save(ctx, inputs: tuple, output: tuple) -> None:
    x, logit, *ctx.windows, _, _, ctx.gate = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, logit, *output[1:])


def _backward(ctx, grad: Tensor, *_) -> tuple:
    no_gradients = (None,) * 8
    if grad is None:
        return no_gradients
    needs_grad_logit = ctx.needs_input_grad[1]
    saved = ctx.saved_tensors  # read once: activation checkpointing unpacks them only once
    if grad.numel() and not saved[2].numel():
        raise RuntimeError(
            'lip2d was called with keep=False, so nothing was kept for the backward pass: '
            'call or export it with gradients enabled'
        )
    grad_x, grad_logit = lip2d_backward(grad, *saved, *ctx.windows, ctx.gate, needs_grad_logit)
    return grad_x, grad_logit if needs_grad_logit else None, *no_gradients[2:]


lip2d.register_autograd(_backward, setup_context=_save)


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last if is_channels_last(x) else torch.contiguous_format


def _launch(
    kernel,
    tensors: tuple,
    columns: Tensor,
    sizes: tuple,
    strided: tuple,
    windows: tuple,
    dtype: torch.dtype,
    **options: Union[bool, float],
) -> None:
    """Start a kernel with one lane for each column of a map.

    Args:
        tensors (tuple[Tensor]): tensor arguments of the kernel.
        columns (Tensor): the map, (B, C, H, W), whose columns are the lanes.
        sizes (tuple[int]): H, W, H', W'.
        strided (tuple[Tensor]): tensors whose strides the kernel takes.
        windows (tuple[list[int]]): kernel size, stride and padding.
        dtype (torch.dtype): dtype to accumulate in.
        options: further constants of the kernel.
    """
    layout = _layout(columns)
    lanes = columns.numel() // columns.size(2)
    strides = [stride for tensor in strided for stride in tensor.stride()]
    names = [f'{name}_{side}' for name in ('KERNEL', 'STRIDE', 'PAD') for side in 'HW']
    small = all(_extent(tensor) < 2**31 for tensor in tensors)
    blocks = triton.cdiv(lanes, LANES[layout]) * triton.cdiv(columns.size(2), ROWS)
    with torch.cuda.device_of(columns):
        kernel[(blocks,)](
            *tensors,
            lanes,
            columns.size(1),
            *sizes,
            *strides,
            **dict(zip(names, (side for pair in windows for side in pair))),
            **options,
            CHANNELS_LAST=layout == torch.channels_last,
            ROWS=ROWS,
            BLOCK=LANES[layout],
            ACC=tl.float64 if dtype == torch.float64 else tl.float32,
            INDEX=tl.int32 if small else tl.int64,
            num_warps=WARPS,
        )


def _extent(tensor: Tensor) -> int:
    """Return the number of elements in memory from the first to the last."""
    return sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride())) + 1
