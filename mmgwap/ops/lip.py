"""Local importance-based pooling (LIP): Gao et al., ICCV 2019, arXiv 1908.04156, equation 1.

    LIP(x, l) = sum_window x * exp(l) / sum_window exp(l)

The authors compute two average poolings, of ``x * exp(l)`` and of ``exp(l)``.  :func:`lip2d` is
the same function, with three differences: sums are accumulated in float32 or wider, since
``exp(12)`` exceeds float16; logits may have any finite value; the backward pass keeps nothing
but the inputs, the result and the sum of the weights, which both have the size of the result.
On a GPU a Triton kernel reads each input from memory once (:mod:`mmgwap.ops.triton`).

Average pooling is LIP with constant logits, SoftPool (Stergiou et al., ICCV 2021) is LIP with
``l = x``, and maximum pooling is the limit of ``l = beta * x``.
"""

import math
from itertools import product
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .triton import first_use_matches, use_triton
from .windows import Axis, Pair, is_channels_last, pair, window_axes, window_spread, window_sum

# exp(60) and exp(-60) leave float32 room for large inputs and windows.
LARGEST_LOGIT = 60.0
# The Triton kernel is unrolled over the window: compiling a large window takes long.
LARGEST_TRITON_WINDOW = 49


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
    """Average each window, weighted by ``exp(logit)``.

    Args:
        x (Tensor): (B, C, H, W), floating point.
        logit (Tensor): finite logits, broadcastable to ``x``: (B, C, H, W), or (B, 1, H, W) for
            one importance for all channels. Prefer float32 even where ``x`` is float16.
        kernel_size (int | tuple[int, int]): size of the window, in cells.
        stride (int | tuple[int, int]): distance between windows, in cells.
        padding (int | tuple[int, int]): cells around the map, at most half of the kernel.
            Padding adds neither values nor weights.
        ceil_mode (bool): whether windows that reach beyond the padding count, as in
            ``torch.nn.MaxPool2d``.
        bounded (bool): whether all logits are known to lie in [-60, 60], as those of
            :class:`~mmgwap.models.layers.SoftGate`, which lie in (0, 12). The PyTorch form then
            skips its check of the values, which would synchronise with a GPU.
        gate (float, optional): pool with ``gate * sigmoid(logit)`` as logits (12 in the paper),
            computed without storing another map.

    Returns:
        Tensor: (B, C, H', W'), in the dtype of ``x``; each value lies between the minimum and the
        maximum of its window. Differentiable once.

    Raises:
        ValueError: if ``logit`` does not broadcast to ``x``, the windows do not fit the map, or
            ``gate`` is not above 0.

    Example:
        >>> x = torch.arange(16.0).view(1, 1, 4, 4)
        >>> lip2d(x, torch.zeros_like(x), kernel_size=2, padding=0)  # average pooling
        tensor([[[[ 2.5000,  4.5000],
                  [10.5000, 12.5000]]]])
    """
    _check_arguments(x, logit, gate)
    if logit.shape[2:] != x.shape[2:]:
        logit = logit.expand(-1, -1, *x.shape[2:])
    windows = (pair(kernel_size), pair(stride), pair(padding), ceil_mode)
    needs_grad = torch.is_grad_enabled() and (x.requires_grad or logit.requires_grad)
    if (
        math.prod(pair(kernel_size)) <= LARGEST_TRITON_WINDOW
        and use_triton(x, logit)
        and _triton_matches(
            x.device, x.dtype, logit.dtype, is_channels_last(x), needs_grad, windows, gate
        )
    ):
        return _lip_by_triton(x, logit, windows, needs_grad, gate)
    if gate is not None and gate > LARGEST_LOGIT:
        logit, gate, bounded = apply_gate(logit, gate), None, False
    bounded = bounded or gate is not None
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        form = _lip_by_average_pools if bounded else _lip_by_offsets
        return form(x, apply_gate(logit, gate), *windows)
    axes = window_axes(x.shape[2:], *windows)
    if bounded or _is_bounded(logit):
        return BoundedLIP.apply(x, logit, axes, gate)
    return _lip_by_softmax(x, logit, axes)


def apply_gate(logit: Tensor, gate: Optional[float]) -> Tensor:
    """Return ``gate * sigmoid(logit)`` in float32 or wider, or ``logit`` if there is no gate."""
    if gate is None:
        return logit
    return gate * (logit.float() if logit.dtype.itemsize < 4 else logit).sigmoid()


def _check_arguments(x: Tensor, logit: Tensor, gate: Optional[float]) -> None:
    if not (
        x.dim() == logit.dim() == 4
        # Comparisons rather than `in`, which Dynamo evaluates by identity for dynamic shapes.
        and all(size == 1 or size == wanted for size, wanted in zip(logit.shape, x.shape))
    ):
        raise ValueError(
            'lip2d needs x of shape (B, C, H, W) and a logit that broadcasts to x, '
            f'got {tuple(x.shape)} and {tuple(logit.shape)}'
        )
    if gate is not None and not gate > 0:
        raise ValueError(f'lip2d: gate must be above 0, got {gate}')


def _is_bounded(logit: Tensor) -> bool:
    if not logit.numel():
        return True
    values = logit.detach()
    if is_channels_last(values):
        values = values.permute(0, 2, 3, 1)  # in the order of memory: faster
    low, high = torch.aminmax(values)
    return bool((low >= -LARGEST_LOGIT) & (high <= LARGEST_LOGIT))


@torch.compiler.assume_constant_result
def _triton_matches(
    device: torch.device,
    dtype: torch.dtype,
    logit_dtype: torch.dtype,
    channels_last: bool,
    needs_grad: bool,
    windows: tuple,
    gate: Optional[float],
) -> bool:
    """Compare the kernel with the PyTorch form on a small map, once for each kind of call."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    size = [kernel + 2 * stride for kernel, stride in zip(*windows[:2])]

    def small_case() -> list[Tensor]:
        x, logit = (
            torch.arange(16 * math.prod(size), device=device)
            .mul(frequency)
            .sin()
            .view(1, 16, *size)
            .to(dtype, memory_format=layout)
            .requires_grad_(needs_grad)
            for frequency, dtype in ((0.7, dtype), (1.1, logit_dtype))
        )
        with torch.set_grad_enabled(needs_grad):
            out = lip2d(x, logit, *windows, gate=gate)
        gradients = torch.autograd.grad(out, (x, logit), out.detach()) if needs_grad else ()
        return [out.detach(), *gradients]

    name = (
        f'lip2d of {dtype} with {logit_dtype} logits, '
        f'{"channels-last" if channels_last else "contiguous"}, windows {windows}, gate {gate}, '
        f'{"forward and backward" if needs_grad else "forward"}'
    )
    return first_use_matches(name, device, small_case)


def _lip_by_triton(
    x: Tensor, logit: Tensor, windows: tuple, needs_grad: bool, gate: Optional[float]
) -> Tensor:
    from .triton.lip import lip2d as kernel  # needs Triton

    return kernel(x, logit, *windows, needs_grad, float(gate or 0))[0]


class BoundedLIP(torch.autograd.Function):
    """LIP of logits whose exponentials fit float32, by window sums.

    With the result y, ``w = exp(l)`` and the sum D of w in a window, the gradients of a cell are
    sums over the windows that hold the cell:

        dL/dx = w * sum(g / D)
        dL/dl = w * (x * sum(g / D) - sum(y * g / D))

    The backward pass computes the gate again, so that no gated map is kept.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, logit: Tensor, axes: tuple[Axis, Axis], gate: Optional[float]
    ) -> Tensor:
        values, logits = _to_accumulation_dtype(x, logit)
        weight = logits.exp() if gate is None else _gated(logits, gate).exp_()
        total = window_sum(weight, axes)
        weighted = weight.mul_(values) if weight.shape == values.shape else weight * values
        out = window_sum(weighted, axes).div_(total)
        ctx.save_for_backward(x, logit, total, out)
        ctx.axes, ctx.gate = axes, gate
        # Return a copy, because the caller may change the result in place.
        return out.to(x.dtype, copy=True)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple:
        x, logit, total, out = ctx.saved_tensors
        values, logits = _to_accumulation_dtype(x, logit)
        logits = _gated(logits, ctx.gate)
        weight = logits.exp()
        grad = grad.to(values.dtype) / total
        grad_x = window_spread(grad, ctx.axes)
        grad_logit = None
        if ctx.needs_input_grad[1]:
            grad_logit = window_spread(grad.mul_(out), ctx.axes).neg_()
            grad_logit.addcmul_(grad_x, values).mul_(weight)
            if ctx.gate is not None:  # slope of gate * sigmoid
                grad_logit.mul_(logits)
                grad_logit.mul_(logits.div_(-ctx.gate).add_(1))
            grad_logit = grad_logit.sum_to_size(logit.shape).to(logit.dtype)
        return grad_x.mul_(weight).to(x.dtype), grad_logit, None, None


def _gated(logit: Tensor, gate: Optional[float]) -> Tensor:
    """Apply the gate without recording a gradient; the multiplication is in place."""
    return logit if gate is None else logit.sigmoid().mul_(gate)


def _to_accumulation_dtype(x: Tensor, logit: Tensor) -> tuple[Tensor, Tensor]:
    """Convert both to the wider of their dtypes, float32 at least."""
    dtype = torch.promote_types(x.dtype, logit.dtype)
    if dtype.itemsize < 4:
        dtype = torch.float32
    return x.to(dtype), logit.to(dtype)


def _lip_by_softmax(x: Tensor, logit: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
    """Compute a softmax in each window: for any finite logits, at the cost of copies."""
    # The end of the last window may lie inside the map; negative padding crops the map there.
    pads = [
        side
        for axis in reversed(axes)
        for side in (
            axis.padding,
            (axis.windows - 1) * axis.stride + axis.kernel - axis.size - axis.padding,
        )
    ]

    def unfold(maps: Tensor, fill: float) -> Tensor:
        """Copy each window: (B, C, H', W', cells of a window)."""
        maps = F.pad(maps, pads, value=fill)
        for dim, axis in zip((2, 3), axes):
            maps = maps.unfold(dim, axis.kernel, axis.stride)
        return maps.flatten(4)

    values, logit = _to_accumulation_dtype(x, logit)
    weight = unfold(logit, float('-inf')).softmax(dim=-1)
    return (unfold(values, 0) * weight).sum(dim=-1).to(x.dtype)


def _lip_by_average_pools(
    x: Tensor,
    logit: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    ceil_mode: bool,
) -> Tensor:
    """Compute the authors' form, for compilers and ONNX: bounded logits only."""
    windows = (kernel_size, stride, padding, ceil_mode)
    values, logit = _to_accumulation_dtype(x, logit)
    weight = logit.exp()
    return (F.avg_pool2d(values * weight, *windows) / F.avg_pool2d(weight, *windows)).to(x.dtype)


def _lip_by_offsets(
    x: Tensor,
    logit: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    ceil_mode: bool,
) -> Tensor:
    """Sum one kernel offset after the other, for compilers and ONNX: any finite logits.

    Weights are relative to the maximum logit of their window, so the maximum has weight 1 and no
    sum is 0. No shape enters Python arithmetic, so that exported axes may be dynamic.
    """
    values, logit = _to_accumulation_dtype(x, logit)
    maximum = F.max_pool2d(logit, kernel_size, stride, padding, ceil_mode=ceil_mode).detach()
    height, width = maximum.shape[2:]
    # With ceil_mode the last window reaches up to stride - 1 cells beyond the padding.
    pads = [
        side
        for pad, step in ((padding[1], stride[1]), (padding[0], stride[0]))
        for side in (pad, pad + (step - 1) * ceil_mode)
    ]
    values, logit = F.pad(values, pads), F.pad(logit, pads, value=float('-inf'))
    numerator = denominator = 0
    for row, column in product(*map(range, kernel_size)):

        def cells(maps: Tensor, row: int = row, column: int = column) -> Tensor:
            """Return the cell at this offset of each window, (B, C, H', W')."""
            return maps[:, :, row :: stride[0], column :: stride[1]][:, :, :height, :width]

        weight = (cells(logit) - maximum).exp()
        numerator = numerator + weight * cells(values)
        denominator = denominator + weight
    return (numerator / denominator).to(x.dtype)


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
            f'kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, '
            f'ceil_mode={self.ceil_mode}, bounded={self.bounded}, gate={self.gate}'
        )
