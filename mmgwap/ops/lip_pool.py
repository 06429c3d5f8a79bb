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

import math
from typing import Optional

import torch
from torch import Tensor, nn

from .kernels import use_kernels
from .lip_forms import SmallLogitsLIP, by_average_pools, by_windows, gated
from .windows import Pair, is_channels_last, pair, window_axes

# exp(60) and exp(-60) leave float32 room for large inputs and windows.
LARGEST_LOGIT = 60.0
# The Triton kernel is unrolled over the window, and compiling it takes long
# where that is large.
KERNEL_CELLS = 49


def lip2d(
    x: Tensor,
    logit: Tensor,
    kernel_size: Pair = 3,
    stride: Pair = 2,
    padding: Pair = 1,
    ceil_mode: bool = False,
    bounded: bool = False,
    gate: Optional[float] = None,
) -> Tensor:
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
        gate (float, optional): take ``gate * sigmoid(logit)`` for the logits,
            with the paper's gate 12.  Done here it needs no memory.

    Returns:
        Tensor: (B, C, H', W'), in the dtype of ``x``; each value lies between
        the smallest and the largest of its window.  It can be differentiated
        once.

    Raises:
        ValueError: if ``logit`` does not fit ``x``, the windows not the map, or
            the gate is not above 0.
    """
    if (
        x.dim() != 4
        or logit.dim() != 4
        or any(here != 1 and here != there for here, there in zip(logit.shape, x.shape))
    ):
        raise ValueError(
            'lip2d needs x (B, C, H, W) and a logit that '
            f'broadcasts to it, got {tuple(x.shape)} and '
            f'{tuple(logit.shape)}'
        )
    if logit.shape[2:] != x.shape[2:]:
        logit = logit.expand(-1, -1, *x.shape[2:])
    if gate is not None and not gate > 0:
        raise ValueError(f'lip2d needs a gate above 0, got {gate}')
    if math.prod(pair(kernel_size)) <= KERNEL_CELLS and use_kernels(x, logit):
        return _by_kernels(
            x, logit, pair(kernel_size), pair(stride), pair(padding), ceil_mode, gate
        )
    if gate is not None and gate > LARGEST_LOGIT:
        logit, gate = gated(logit, gate), None
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        logit = gated(logit, gate)
        if gate is None and not bounded:
            logit = logit - logit.amax(dim=(2, 3), keepdim=True).detach()
        return by_average_pools(x, logit, kernel_size, stride, padding, ceil_mode)
    axes = window_axes(x.shape[2:], kernel_size, stride, padding, ceil_mode)
    if gate is not None or bounded or _is_bounded(logit):
        return SmallLogitsLIP.apply(x, logit, axes, gate)
    return by_windows(x, logit, axes)


def _by_kernels(
    x: Tensor,
    logit: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    ceil_mode: bool,
    gate: Optional[float],
) -> Tensor:
    from .kernels.lip import lip2d as kernel  # needs Triton

    keep = torch.is_grad_enabled() and (x.requires_grad or logit.requires_grad)
    return kernel(x, logit, kernel_size, stride, padding, ceil_mode, keep, float(gate or 0))[0]


def _is_bounded(logit: Tensor) -> bool:
    if not logit.numel():
        return True
    values = logit.detach()
    if is_channels_last(values):
        values = values.permute(0, 2, 3, 1)  # as it lies in memory: faster
    low, high = torch.aminmax(values)
    return bool((low >= -LARGEST_LOGIT) & (high <= LARGEST_LOGIT))


class LIP2d(nn.Module):
    """Module form of :func:`lip2d`; ``forward(x, logit)``."""

    def __init__(
        self,
        kernel_size: Pair = 3,
        stride: Pair = 2,
        padding: Pair = 1,
        ceil_mode: bool = False,
        bounded: bool = False,
        gate: Optional[float] = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.bounded = bounded
        self.gate = gate

    def forward(self, x: Tensor, logit: Tensor) -> Tensor:
        return lip2d(
            x,
            logit,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.bounded,
            self.gate,
        )

    def extra_repr(self) -> str:
        return (
            f'kernel_size={self.kernel_size}, stride={self.stride}, '
            f'padding={self.padding}, ceil_mode={self.ceil_mode}, '
            f'bounded={self.bounded}, gate={self.gate}'
        )
