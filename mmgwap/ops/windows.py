"""Sums over sliding windows without their padding, and the adjoint of these sums.

A window sum is separable: rows first, columns second. Each pass adds strided slices, which torch
vectorises on a CPU. torch's average pooling visits the cells one by one on a CPU, but is faster
for channels-last maps.
"""

from collections.abc import Iterator
from typing import NamedTuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = Union[int, tuple[int, int]]


class Axis(NamedTuple):
    """Windows along one axis of a map; sizes in cells."""

    size: int
    kernel: int
    stride: int
    padding: int
    windows: int

    def offsets(self) -> Iterator[tuple[slice, slice]]:
        """Yield, per kernel offset, the windows whose cell lies in the map, and these cells."""
        for offset in range(self.kernel):
            shift = offset - self.padding
            first = max(0, -(shift // self.stride))
            last = min(self.windows - 1, (self.size - 1 - shift) // self.stride)
            if first <= last:
                cell = first * self.stride + shift
                stop = last * self.stride + shift + 1
                yield slice(first, last + 1), slice(cell, stop, self.stride)


def window_axes(
    size: tuple[int, int], kernel_size: Pair, stride: Pair, padding: Pair, ceil_mode: bool
) -> tuple[Axis, Axis]:
    """Return the windows of a pooling over a map of ``size``, counted as torch counts them.

    Raises:
        ValueError: if kernel or stride is not positive, the padding exceeds half of the kernel,
            or the map is smaller than a window.
    """
    axes = []
    for length, kernel, step, pad in zip(size, pair(kernel_size), pair(stride), pair(padding)):
        if kernel < 1 or step < 1 or not 0 <= 2 * pad <= kernel:
            raise ValueError(
                'windows need kernel_size >= 1, stride >= 1 and padding from 0 to kernel_size / 2, '
                f'got kernel_size={kernel_size}, stride={stride}, padding={padding}'
            )
        free = length + 2 * pad - kernel
        windows = (-(-free // step) if ceil_mode else free // step) + 1
        if ceil_mode and (windows - 1) * step >= length + pad:
            windows -= 1  # the last window would hold padding only
        if length < 1 or windows < 1:
            raise ValueError(
                f'a map of {size[0]} x {size[1]} is too small for windows of '
                f'kernel_size {kernel_size} with padding {padding}'
            )
        axes.append(Axis(length, kernel, step, pad, windows))
    return axes[0], axes[1]


def pair(value: Pair) -> tuple[int, int]:
    """Return a kernel size, stride or padding as (vertical, horizontal)."""
    return (value, value) if isinstance(value, int) else tuple(value)


def window_sum(maps: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
    """Sum each window: (B, C, H, W) to (B, C, H', W')."""
    if maps.is_cuda or is_channels_last(maps):
        return _sum_by_pooling(maps, axes)
    for dim, axis in zip((2, 3), axes):
        total = _empty(maps, dim, axis.windows)
        offsets = sorted(axis.offsets(), key=lambda pair: pair[0].start - pair[0].stop)
        windows, cells = offsets[0]
        if windows == slice(0, axis.windows):  # the usual case: a copy replaces zeroing and adding
            total.copy_(_slice(maps, dim, cells))
            del offsets[0]
        else:
            total.zero_()
        for windows, cells in offsets:
            _slice(total, dim, windows).add_(_slice(maps, dim, cells))
        maps = total
    return maps


def window_spread(values: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
    """Add the value of each window to its cells: the adjoint of :func:`window_sum`."""
    for dim, axis in zip((3, 2), reversed(axes)):
        total = _empty(values, dim, axis.size).zero_()
        for windows, cells in axis.offsets():
            _slice(total, dim, cells).add_(_slice(values, dim, windows))
        values = total
    return values


def _sum_by_pooling(maps: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
    ceil_mode = any(
        axis.windows > (axis.size + 2 * axis.padding - axis.kernel) // axis.stride + 1
        for axis in axes
    )
    return F.avg_pool2d(
        maps,
        [axis.kernel for axis in axes],
        [axis.stride for axis in axes],
        [axis.padding for axis in axes],
        ceil_mode,
        divisor_override=1,
    )


def is_channels_last(maps: Tensor) -> bool:
    """Return whether maps are channels-last and not also contiguous."""
    return maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()


def _empty(like: Tensor, dim: int, length: int) -> Tensor:
    """Allocate a map as ``like``, in its memory format, with another length along ``dim``."""
    shape = list(like.shape)
    shape[dim] = length
    return torch.empty(
        shape,
        dtype=like.dtype,
        device=like.device,
        memory_format=torch.channels_last if is_channels_last(like) else torch.contiguous_format,
    )


def _slice(maps: Tensor, dim: int, cells: slice) -> Tensor:
    return maps[:, :, cells] if dim == 2 else maps[..., cells]
