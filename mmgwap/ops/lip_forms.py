"""Forms of LIP of PyTorch's own operators; see :mod:`mmgwap.ops.lip_pool`."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .windows import Axis, Pair, pair, window_spread, window_sum


def gated(logit: Tensor, gate: Optional[float]) -> Tensor:
    """``gate * sigmoid(logit)``, in float32 at least; or just the logit."""
    if gate is None:
        return logit
    return gate * (logit.float() if logit.dtype.itemsize < 4 else logit).sigmoid()


def _gated(logit: Tensor, gate: Optional[float]) -> Tensor:
    """The same without a gradient, and without a map more."""
    return logit if gate is None else logit.sigmoid().mul_(gate)


class SmallLogitsLIP(torch.autograd.Function):
    """LIP of logits whose exponentials fit float32.

    With the result y, ``w = exp(l)`` and D the sum of w in a window, where the
    sums go over the windows that hold a cell:

        dL/dx = w * sum(g / D)
        dL/dl = w * (x * sum(g / D) - sum(y * g / D))

    The gate is computed again for the backward pass rather than kept.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, logit: Tensor, axes: tuple[Axis, Axis], gate: Optional[float]
    ) -> Tensor:
        wide, weight = _wide(x, logit)
        weight = weight.exp() if gate is None else _gated(weight, gate).exp_()
        total = window_sum(weight, axes)
        weighted = weight.mul_(wide) if weight.shape == wide.shape else weight * wide
        out = window_sum(weighted, axes).div_(total)
        ctx.save_for_backward(x, logit, total, out)
        ctx.axes, ctx.gate = axes, gate
        # A copy, since what is returned may be changed in place.
        return out.to(x.dtype, copy=True)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple:
        x, logit, total, out = ctx.saved_tensors
        wide, logits = _wide(x, logit)
        logits = _gated(logits, ctx.gate)
        weight = logits.exp()
        grad = grad.to(wide.dtype) / total
        grad_x = window_spread(grad, ctx.axes)
        grad_logit = None
        if ctx.needs_input_grad[1]:
            grad_logit = window_spread(grad.mul_(out), ctx.axes).neg_()
            grad_logit.addcmul_(grad_x, wide).mul_(weight)
            if ctx.gate is not None:  # of gate * sigmoid
                grad_logit.mul_(logits)
                grad_logit.mul_(logits.div_(-ctx.gate).add_(1))
            grad_logit = grad_logit.sum_to_size(logit.shape).to(logit.dtype)
        return grad_x.mul_(weight).to(x.dtype), grad_logit, None, None


def _wide(x: Tensor, logit: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the wider of their types, and in float32 at least."""
    dtype = torch.promote_types(x.dtype, logit.dtype)
    if dtype.itemsize < 4:
        dtype = torch.float32
    return x.to(dtype), logit.to(dtype)


def by_windows(x: Tensor, logit: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
    """A softmax in each window: for any finite logits, at the cost of copies."""

    def windows(maps: Tensor, fill: float) -> Tensor:
        # (B, C, H', W', cells of a window); negative padding crops.
        pads = [
            side
            for axis in reversed(axes)
            for side in (
                axis.padding,
                (axis.windows - 1) * axis.stride + axis.kernel - axis.size - axis.padding,
            )
        ]
        maps = F.pad(maps, pads, value=fill)
        for dim, axis in zip((2, 3), axes):
            maps = maps.unfold(dim, axis.kernel, axis.stride)
        return maps.flatten(4)

    wide, logit = _wide(x, logit)
    weight = windows(logit, float('-inf')).softmax(dim=-1)
    return (windows(wide, 0) * weight).sum(dim=-1).to(x.dtype)


def by_average_pools(
    x: Tensor, logit: Tensor, kernel_size: Pair, stride: Pair, padding: Pair, ceil_mode: bool
) -> Tensor:
    """The authors' form, of operators that compilers and ONNX know."""

    def pool(maps: Tensor) -> Tensor:
        return F.avg_pool2d(maps, pair(kernel_size), pair(stride), pair(padding), ceil_mode)

    wide, logit = _wide(x, logit)
    weight = logit.exp()
    return (pool(wide * weight) / pool(weight)).to(x.dtype)
