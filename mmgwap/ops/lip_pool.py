"""Local importance-based pooling (LIP): Gao et al., ICCV 2019, arXiv
1908.04156, equation 1.

    LIP(x, l) = sum_window x * exp(l) / sum_window exp(l)

The authors' form is two average poolings, of ``x * exp(l)`` and of ``exp(l)``,
and this is the same function.  It differs in three points: sums are taken in
float32 or wider, since ``exp(12)`` exceeds float16; logits may have any finite
value; and for the backward pass nothing is kept but the inputs, the result and
the sum of the weights, which both have the size of the result.  On a GPU a
Triton kernel does it in one pass over the memory (:mod:`mmgwap.ops.kernels`).

Average pooling is LIP with constant logits, SoftPool (Stergiou et al., ICCV
2021) with ``l = x``, and maximum pooling is the limit of ``l = beta * x``.
"""
from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .kernels import use_kernels
from .windows import (Axis, Pair, is_channels_last, pair, window_axes,
                      window_spread, window_sum)

# exp(60) and exp(-60) leave float32 room for large inputs and windows.
LARGEST_LOGIT = 60.


def lip2d(x: Tensor, logit: Tensor, kernel_size: Pair = 3, stride: Pair = 2,
          padding: Pair = 1, ceil_mode: bool = False,
          bounded: bool = False) -> Tensor:
    """Mean of each window, weighted by ``exp(logit)``.

    Args:
        x (Tensor): (B, C, H, W), floating point.
        logit (Tensor): broadcastable to ``x``: (B, C, H, W), or (B, 1, H, W)
            with one importance for all channels.  Finite; float32 is worth
            having even where ``x`` is float16.
        kernel_size (int | tuple[int, int]): size of the window, in cells.
        stride (int | tuple[int, int]): from window to window, in cells.
        padding (int | tuple[int, int]): cells around the map, at most half of
            the kernel.  They count neither as values nor as weights.
        ceil_mode (bool): whether windows that reach beyond the padding count,
            as in ``torch.nn.MaxPool2d``.
        bounded (bool): whether no logit exceeds 60 in magnitude; those of
            :class:`~mmgwap.models.layers.SoftGate` lie in (0, 12).  It saves a
            look at the values, for which a GPU would have to be waited for.
            The Triton kernel needs none.  Graphs that are compiled without it,
            or traced, do not look: there the logits of a window have to come
            within 80 of the largest of their map.

    Returns:
        Tensor: (B, C, H', W'), in the dtype of ``x``; each value lies between
        the smallest and the largest of its window.  It can be differentiated
        once.

    Raises:
        ValueError: if ``logit`` does not fit ``x``, or the windows not the map.
    """
    if x.dim() != 4 or logit.dim() != 4 or any(
            here != 1 and here != there
            for here, there in zip(logit.shape, x.shape)):
        raise ValueError('lip2d needs x (B, C, H, W) and a logit that '
                         f'broadcasts to it, got {tuple(x.shape)} and '
                         f'{tuple(logit.shape)}')
    if logit.shape[2:] != x.shape[2:]:
        logit = logit.expand(-1, -1, *x.shape[2:])
    if use_kernels(x, logit):
        return _by_kernels(x, logit, pair(kernel_size), pair(stride),
                           pair(padding), ceil_mode)
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        if not bounded:
            logit = logit - logit.amax(dim=(2, 3), keepdim=True).detach()
        return _by_average_pools(x, logit, kernel_size, stride, padding,
                                 ceil_mode)
    axes = window_axes(x.shape[2:], kernel_size, stride, padding, ceil_mode)
    if bounded or _is_bounded(logit):
        return _LIP.apply(x, logit, axes)
    return _by_windows(x, logit, axes)


def _by_kernels(x: Tensor, logit: Tensor, kernel_size: Tuple[int, int],
                stride: Tuple[int, int], padding: Tuple[int, int],
                ceil_mode: bool) -> Tensor:
    from .kernels.lip import lip2d as kernel  # needs Triton
    keep = torch.is_grad_enabled() and (x.requires_grad or logit.requires_grad)
    return kernel(x, logit, kernel_size, stride, padding, ceil_mode, keep)[0]


def _is_bounded(logit: Tensor) -> bool:
    if not logit.numel():
        return True
    values = logit.detach()
    if is_channels_last(values):
        values = values.permute(0, 2, 3, 1)  # as it lies in memory: faster
    low, high = torch.aminmax(values)
    return bool((low >= -LARGEST_LOGIT) & (high <= LARGEST_LOGIT))


class _LIP(torch.autograd.Function):
    """LIP of logits whose exponentials fit float32.

    With the result y, ``w = exp(l)`` and D the sum of w in a window, where the
    sums go over the windows that hold a cell:

        dL/dx = w * sum(g / D)
        dL/dl = w * (x * sum(g / D) - sum(y * g / D))
    """

    @staticmethod
    def forward(ctx, x: Tensor, logit: Tensor,
                axes: Tuple[Axis, Axis]) -> Tensor:
        wide, weight = _wide(x, logit)
        weight = weight.exp()
        total = window_sum(weight, axes)
        weighted = weight.mul_(wide) if weight.shape == wide.shape \
            else weight * wide
        out = window_sum(weighted, axes).div_(total)
        ctx.save_for_backward(x, logit, total, out)
        ctx.axes = axes
        # A copy, since what is returned may be changed in place.
        return out.to(x.dtype, copy=True)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple:
        x, logit, total, out = ctx.saved_tensors
        wide, weight = _wide(x, logit)
        weight = weight.exp()
        grad = grad.to(wide.dtype) / total
        grad_x = window_spread(grad, ctx.axes)
        grad_logit = None
        if ctx.needs_input_grad[1]:
            grad_logit = window_spread(grad.mul_(out), ctx.axes).neg_()
            grad_logit.addcmul_(grad_x, wide).mul_(weight)
            grad_logit = grad_logit.sum_to_size(logit.shape).to(logit.dtype)
        return grad_x.mul_(weight).to(x.dtype), grad_logit, None


def _wide(x: Tensor, logit: Tensor) -> Tuple[Tensor, Tensor]:
    """Both in the wider of their types, and in float32 at least."""
    dtype = torch.promote_types(x.dtype, logit.dtype)
    if dtype.itemsize < 4:
        dtype = torch.float32
    return x.to(dtype), logit.to(dtype)


def _by_windows(x: Tensor, logit: Tensor, axes: Tuple[Axis, Axis]) -> Tensor:
    """A softmax in each window: for any finite logits, at the cost of copies.
    """
    def windows(maps: Tensor, fill: float) -> Tensor:
        # (B, C, H', W', cells of a window); negative padding crops.
        pads = [side for axis in reversed(axes) for side in (
            axis.padding, (axis.windows - 1) * axis.stride + axis.kernel
            - axis.size - axis.padding)]
        maps = F.pad(maps, pads, value=fill)
        for dim, axis in zip((2, 3), axes):
            maps = maps.unfold(dim, axis.kernel, axis.stride)
        return maps.flatten(4)

    wide, logit = _wide(x, logit)
    weight = windows(logit, float('-inf')).softmax(dim=-1)
    return (windows(wide, 0) * weight).sum(dim=-1).to(x.dtype)


def _by_average_pools(x: Tensor, logit: Tensor, kernel_size: Pair,
                      stride: Pair, padding: Pair, ceil_mode: bool) -> Tensor:
    """The authors' form, of operators that compilers and ONNX know."""
    def pool(maps: Tensor) -> Tensor:
        return F.avg_pool2d(maps, pair(kernel_size), pair(stride),
                            pair(padding), ceil_mode)

    wide, logit = _wide(x, logit)
    weight = logit.exp()
    return (pool(wide * weight) / pool(weight)).to(x.dtype)


class LIP2d(nn.Module):
    """Module form of :func:`lip2d`; ``forward(x, logit)``."""

    def __init__(self, kernel_size: Pair = 3, stride: Pair = 2,
                 padding: Pair = 1, ceil_mode: bool = False,
                 bounded: bool = False) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.bounded = bounded

    def forward(self, x: Tensor, logit: Tensor) -> Tensor:
        return lip2d(x, logit, self.kernel_size, self.stride, self.padding,
                     self.ceil_mode, self.bounded)

    def extra_repr(self) -> str:
        return (f'kernel_size={self.kernel_size}, stride={self.stride}, '
                f'padding={self.padding}, ceil_mode={self.ceil_mode}, '
                f'bounded={self.bounded}')
