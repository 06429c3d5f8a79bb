"""Sums over sliding windows, which leave padding out, and their adjoint.

A window sum is separable: first down the rows, then along the columns.  Each
pass adds strided slices, which torch vectorises on a CPU.  Its average pooling
there goes through the cells one by one, but is the faster for channels-last.
"""

from collections.abc import Iterator
from typing import NamedTuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = Union[int, tuple[int, int]]


class Axis(NamedTuple):
    """The windows along one axis of a map: sizes in cells."""

    size: int
    kernel: int
    stride: int
    padding: int
    windows: int

    def taps(self) -> Iterator[tuple[slice, slice]]:
        """Of each place in the window: the windows where it lies in the map,
        and the cells that it lies on."""
        for place in range(self.kernel):
            shift = place - self.padding
            first = max(0, -(shift // self.stride))
            last = min(self.windows - 1, (self.size - 1 - shift) // self.stride)
            if first <= last:
                cell = first * self.stride + shift
                stop = last * self.stride + shift + 1
                yield slice(first, last + 1), slice(cell, stop, self.stride)


def window_axes(
    size: tuple[int, int], kernel_size: Pair, stride: Pair, padding: Pair, ceil_mode: bool
) -> tuple[Axis, Axis]:
    """The windows of a pooling over a map of ``size``, as torch counts them.

    Raises:
        ValueError: if kernel and stride are not positive, the padding exceeds
            half of the kernel, or the map is smaller than a window.
    """
    axes = []
    for length, kernel, step, pad in zip(size, pair(kernel_size), pair(stride), pair(padding)):
        if kernel < 1 or step < 1 or not 0 <= 2 * pad <= kernel:
            raise ValueError(
                'windows need kernel_size >= 1, stride >= 1 and padding from 0 '
                f'to kernel_size / 2, got {kernel_size}, {stride}, {padding}'
            )
        room = length + 2 * pad - kernel
        windows = (-(-room // step) if ceil_mode else room // step) + 1
        if ceil_mode and (windows - 1) * step >= length + pad:
            windows -= 1  # the last would lie in the padding alone
        if length < 1 or windows < 1:
            raise ValueError(
                f'a map of {size[0]} x {size[1]} is too small for windows of '
                f'kernel_size {kernel_size} with padding {padding}'
            )
        axes.append(Axis(length, kernel, step, pad, windows))
    return axes[0], axes[1]


def pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def window_sum(maps: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
    """Sum of each window: (B, C, H, W) to one value a window."""
    if maps.is_cuda or is_channels_last(maps):
        return _sum_by_pooling(maps, axes)
    for dim, axis in zip((2, 3), axes):
        total = _empty(maps, dim, axis.windows)
        taps = sorted(axis.taps(), key=lambda tap: tap[0].start - tap[0].stop)
        windows, cells = taps[0]
        if windows == slice(0, axis.windows):  # mostly: spares a pass
            total.copy_(_at(maps, dim, cells))
            del taps[0]
        else:
            total.zero_()
        for windows, cells in taps:
            _at(total, dim, windows).add_(_at(maps, dim, cells))
        maps = total
    return maps


def window_spread(values: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
    """Adjoint of :func:`window_sum`: each cell gets its windows' values."""
    for dim, axis in zip((3, 2), reversed(axes)):
        total = _empty(values, dim, axis.size).zero_()
        for windows, cells in axis.taps():
            _at(total, dim, cells).add_(_at(values, dim, windows))
        values = total
    return values


def _sum_by_pooling(maps: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
    room = [axis.size + 2 * axis.padding - axis.kernel for axis in axes]
    ceil_mode = any(axis.windows > rest // axis.stride + 1 for axis, rest in zip(axes, room))
    return F.avg_pool2d(
        maps,
        [axis.kernel for axis in axes],
        [axis.stride for axis in axes],
        [axis.padding for axis in axes],
        ceil_mode,
        divisor_override=1,
    )


def is_channels_last(maps: Tensor) -> bool:
    return maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()


def _empty(like: Tensor, dim: int, length: int) -> Tensor:
    """Of that length along ``dim``, in the same memory format."""
    shape = list(like.shape)
    shape[dim] = length
    return torch.empty(
        shape,
        dtype=like.dtype,
        device=like.device,
        memory_format=torch.channels_last if is_channels_last(like) else torch.contiguous_format,
    )


def _at(maps: Tensor, dim: int, cells: slice) -> Tensor:
    return maps[:, :, cells] if dim == 2 else maps[..., cells]
