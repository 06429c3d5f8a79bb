"""``torch.ops.mmgwap.lip2d``: LIP as an operator that torch knows.

It has a meta kernel and a gradient, so that autograd, ``torch.compile`` and
``torch.export`` see one node; what it runs are the Triton kernels.
"""

from typing import List, Tuple, Union

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..windows import is_channels_last, window_axes
from . import lip_kernels

# Rows of a column that a program walks down, and lanes of a program.  With
# channels last a thread has four lanes, read by one instruction.  Chosen by
# counting instructions, not by timing.
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
    """Pool, as :func:`mmgwap.ops.lip2d` says.

    Args:
        keep (bool): whether there will be a backward pass.
        gate (float): 0 for none.

    Returns:
        tuple[Tensor, Tensor, Tensor]: the result; and for the backward pass
        the same unrounded and the logarithm of the sum of weights, or nothing.
    """
    out, mean, level = _results(x, logit, kernel_size, stride, padding, ceil_mode, keep, gate)
    if out.numel():
        logit = logit.expand(x.shape)
        _launch(
            lip_kernels.forward,
            (x, logit, out, mean, level),
            out,
            (x.size(2), x.size(3), *out.shape[2:]),
            (x, logit, out),
            (kernel_size, stride, padding),
            mean.dtype,
            KEEP=keep,
            GATE=gate,
        )
    return out, mean, level


@lip2d.register_fake
def _results(
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
    wide = torch.promote_types(torch.promote_types(x.dtype, logit.dtype), torch.float32)
    kept = [
        torch.empty_like(out, dtype=wide) if keep else out.new_empty(0, dtype=wide)
        for _ in range(2)
    ]
    return out, *kept


@torch.library.custom_op('mmgwap::lip2d_backward', mutates_args=())
def lip2d_backward(
    grad: Tensor,
    x: Tensor,
    logit: Tensor,
    mean: Tensor,
    level: Tensor,
    kernel_size: List[int],
    stride: List[int],
    padding: List[int],
    gate: float,
    of_logit: bool,
) -> Tuple[Tensor, Tensor]:
    """Gradients of x and, with ``of_logit``, of the logit."""
    grad_x, grad_logit = _gradients(
        grad, x, logit, mean, level, kernel_size, stride, padding, gate, of_logit
    )
    if not x.numel():
        return grad_x, grad_logit.zero_()
    # A broadcast logit's gradient is summed afterwards, unrounded.
    every = (
        grad_logit
        if logit.shape == x.shape or not of_logit
        else torch.empty_like(grad_x, dtype=mean.dtype)
    )
    # Its strides are taken to be the mean's, whatever x has been since.
    grad = grad.contiguous(memory_format=_layout(mean))
    logit = logit.expand(x.shape)
    _launch(
        lip_kernels.backward,
        (grad, x, logit, mean, level, grad_x, every),
        grad_x,
        (x.size(2), x.size(3), *mean.shape[2:]),
        (x, logit, mean, grad_x),
        (kernel_size, stride, padding),
        mean.dtype,
        OF_LOGIT=of_logit,
        GATE=gate,
    )
    if every is not grad_logit:
        grad_logit.copy_(every.sum_to_size(grad_logit.shape))
    return grad_x, grad_logit


@lip2d_backward.register_fake
def _gradients(
    grad: Tensor,
    x: Tensor,
    logit: Tensor,
    mean: Tensor,
    level: Tensor,
    kernel_size: List[int],
    stride: List[int],
    padding: List[int],
    gate: float,
    of_logit: bool,
) -> Tuple[Tensor, Tensor]:
    layout = _layout(x)
    grad_x = torch.empty_like(x, memory_format=layout)
    if not of_logit:
        return grad_x, logit.new_empty(0)
    return grad_x, torch.empty_like(logit, memory_format=layout)


def _save(ctx, inputs: tuple, output: tuple) -> None:
    x, logit, *ctx.windows, _, _, ctx.gate = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, logit, *output[1:])


def _backward(ctx, grad: Tensor, *_) -> tuple:
    nothing = (None,) * 8
    if grad is None:
        return nothing
    of_logit = ctx.needs_input_grad[1]
    if grad.numel() and not ctx.saved_tensors[2].numel():
        raise RuntimeError(
            'lip2d has kept nothing for a backward pass '
            '(keep=False): call or export it with gradients '
            'enabled'
        )
    grad_x, grad_logit = lip2d_backward(grad, *ctx.saved_tensors, *ctx.windows, ctx.gate, of_logit)
    return grad_x, grad_logit if of_logit else None, *nothing[2:]


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
    wide: torch.dtype,
    **options: Union[bool, float],
) -> None:
    """Start a kernel with a lane for each column of a map.

    Args:
        columns (Tensor): the map, (B, C, H, W), whose columns those are.
        sizes (tuple[int]): H, W, H', W'.
        strided (tuple[Tensor]): whose strides the kernel takes.
        windows (tuple[list[int]]): kernel size, stride and padding.
        wide (torch.dtype): to compute in.
    """
    layout = _layout(columns)
    lanes = columns.numel() // columns.size(2)
    strides = [step for one in strided for step in one.stride()]
    names = [f'{what}_{side}' for what in ('KERNEL', 'STRIDE', 'PAD') for side in 'HW']
    small = all(_reach(one) < 2**31 for one in tensors)
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
            WIDE=tl.float64 if wide == torch.float64 else tl.float32,
            INDEX=tl.int32 if small else tl.int64,
            num_warps=WARPS,
        )


def _reach(tensor: Tensor) -> int:
    """Elements from the first to the last, as they lie in memory."""
    return sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride())) + 1
