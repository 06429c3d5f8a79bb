"""Contenders that do not compute the same are not timed."""

from collections.abc import Sequence
from typing import Callable

import torch
from torch import Tensor

# For differences relative to the largest value, and of norms to the norm.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 6e-2, torch.float16: 8e-3}


class WrongResult(Exception):
    """A contender computes something else."""


def leaves(inputs: Sequence[Tensor], differentiated: int) -> list[Tensor]:
    """The same values, the first so many of them with a gradient to come."""
    return [one.detach().requires_grad_(place < differentiated) for place, one in enumerate(inputs)]


def gradient_like(out: Tensor) -> Tensor:
    """A gradient of an output: nowhere 0, and the same whoever computed it."""
    values = torch.arange(out.numel(), device=out.device).double().cos()
    return torch.empty_like(out).copy_(values.view(out.shape))


def output_and_gradients(function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Of one call: the output, and the gradient of each input that has one."""
    out = function(*inputs)
    wanted = [one for one in inputs if one.requires_grad]
    return [out.detach(), *torch.autograd.grad(out, wanted, gradient_like(out))]


def check_equal(found: list[Tensor], expected: list[Tensor], what: str) -> None:
    """Compare output and gradients, up to the layout of the gradients.

    Args:
        found, expected (list[Tensor]): of ``output_and_gradients``.
        what (str): who computed what, for errors.

    Raises:
        WrongResult: if they differ by more than rounding.
    """
    for place, (one, other) in enumerate(zip(found, expected)):
        name = f'gradient {place}' if place else 'output'
        if one.numel() != other.numel() or not place and one.shape != other.shape:
            raise WrongResult(
                f'{what}: {name} has shape {tuple(one.shape)}, not {tuple(other.shape)}'
            )
        allowed = max(TOLERANCES[one.dtype], TOLERANCES[other.dtype])
        off = difference(one.reshape(other.shape), other)
        if not off <= allowed:  # also where it is NaN
            raise WrongResult(
                f'{what}: {name} differs by {off:.3g} of the largest value; {allowed:g} is allowed'
            )


def difference(one: Tensor, other: Tensor) -> float:
    """The larger of two: the largest difference over the largest value, which
    finds a wrong cell, and that of the norms, which finds wrong rounding."""
    if not other.numel():
        return 0.0
    one, other = one.double(), other.double()
    gap = one - other
    tiny = torch.finfo(torch.float64).tiny
    return max(
        float(gap.abs().max() / other.abs().max().clamp(min=tiny)),
        float(gap.norm() / other.norm().clamp(min=tiny)),
    )
