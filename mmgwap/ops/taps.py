"""Weighted sums of the cells that the bins of RoIs read.

Whatever the sampling, a value that is pooled from a position-sensitive map is
a weighted sum of cells of its bin's map, and the weights are the same for all
channels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Orders of (B, C, P*P, H, W) that make each cell's C values a row.
BY_CELL = (0, 3, 4, 2, 1)
BY_BIN = (2, 0, 3, 4, 1)


class Taps(NamedTuple):
    """The cells that bins read, sorted by bin and then by RoI.

    Attributes:
        cell (Tensor): (T,), int32, ``(batch * H + y) * W + x``.
        weight (Tensor): (T,), float.
        bag (Tensor): (T,), int32, whose cell it is: ``bin * K + roi``.
        count (Tensor): (P*P, K), int64, cells of each bin of each RoI.
    """

    cell: Tensor
    weight: Tensor
    bag: Tensor
    count: Tensor


def sum_taps(maps: Tensor, taps: Taps, vote: bool) -> Tensor:
    """Weighted sums of the cells of each bin.

    Args:
        maps (Tensor): (B, C, P*P, H, W); gradients flow to it alone.  One that
            lies in memory as (B, H, W, P*P, C) is read without a copy.
        taps (Taps): which cells, and how much of each.
        vote (bool): whether to add up the bins of a RoI.

    Returns:
        Tensor: (P*P, K, C), or (K, C) with ``vote``, in the dtype of
        ``maps``, accumulated in at least float32.
    """
    return _SumTaps.apply(maps, *taps, vote)


class _SumTaps(Function):
    """Its gradient is the same operation, with RoIs and cells exchanged."""

    @staticmethod
    def forward(
        ctx, maps: Tensor, cell: Tensor, weight: Tensor, bag: Tensor, count: Tensor, vote: bool
    ) -> Tensor:
        ctx.save_for_backward(cell, weight, bag, count)
        ctx.vote, ctx.shape = vote, maps.shape
        ctx.by_cell = lies_by_cell(maps)
        return _gather(maps, Taps(cell, weight, bag, count), vote)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple:
        grad = spread_taps(grad, Taps(*ctx.saved_tensors), ctx.shape, ctx.vote, ctx.by_cell)
        return grad, None, None, None, None, None


def _gather(maps: Tensor, taps: Taps, vote: bool) -> Tensor:
    """``embedding_bag`` over a table whose rows are the C values of a cell.

    It gathers, multiplies and adds in one pass: nothing of the size T * C is
    stored.
    """
    by_cell = lies_by_cell(maps)
    sums = []
    for bins, part in _chunks(maps.shape, taps.count, by_cell):
        rows = maps[:, :, bins].permute(BY_CELL if by_cell else BY_BIN)
        rows = rows.to(exact(maps)).flatten(0, 3).contiguous()
        size = taps.count[bins].flatten()
        row = _row(taps, bins, part, maps.shape, by_cell)
        chunk = F.embedding_bag(
            row,
            rows,
            (size.cumsum(0) - size).to(row.dtype),
            mode='sum',
            per_sample_weights=taps.weight[part].to(rows.dtype),
        )
        chunk = chunk.view(*taps.count[bins].shape, maps.size(1))
        sums.append(chunk.sum(0, keepdim=True) if vote else chunk)
    total = torch.cat(sums)
    return (total.sum(0) if vote else total).to(maps.dtype)


def spread_taps(grad: Tensor, taps: Taps, shape: torch.Size, vote: bool, by_cell: bool) -> Tensor:
    """Adjoint of :func:`sum_taps`, which writes each cell once.

    Args:
        grad (Tensor): (P*P, K, C), or (K, C) with ``vote``.
        shape (torch.Size): of the map, (B, C, P*P, H, W).
        by_cell (bool): whether it lies in memory as (B, H, W, P*P, C).

    Returns:
        Tensor: of that shape, layout, and the dtype of ``grad``; the order of
        its sums is fixed.
    """
    num_bins, num_rois = taps.count.shape
    batch, channels, _, *size = shape
    result = None if by_cell else grad.new_empty(shape)
    wide = grad.to(exact(grad)).contiguous()
    for bins, part in _chunks(shape, taps.count, by_cell):
        num_rows = (bins.stop - bins.start) * batch * size[0] * size[1]
        row = _row(taps, bins, part, shape, by_cell)
        size_of_row = torch.bincount(row, minlength=num_rows)
        order = row.argsort(stable=True)
        del row  # taps are many
        # Which row of the gradient each of them hands on.
        giver = taps.bag[part][order]
        giver = giver % num_rois if vote else giver - bins.start * num_rois
        rows = F.embedding_bag(
            giver,
            wide if vote else wide[bins].flatten(0, 1),
            (size_of_row.cumsum(0) - size_of_row).to(giver.dtype),
            mode='sum',
            per_sample_weights=taps.weight[part][order].to(wide.dtype),
        )
        if by_cell:
            return rows.view(batch, *size, num_bins, channels).permute(0, 4, 3, 1, 2).to(grad.dtype)
        result[:, :, bins] = rows.view(bins.stop - bins.start, batch, *size, channels).permute(
            1, 4, 0, 2, 3
        )
    return result


def exact(maps: Tensor) -> torch.dtype:
    """The dtype to accumulate in."""
    return torch.promote_types(maps.dtype, torch.float32)


def lies_by_cell(maps: Tensor) -> bool:
    """Whether (B, C, P*P, H, W) lies in memory as (B, H, W, P*P, C)."""
    return maps.permute(BY_CELL).is_contiguous()


def _chunks(shape: torch.Size, count: Tensor, by_cell: bool) -> Iterator[tuple[slice, slice]]:
    """Bins to work on at a time, and their part of the taps.

    What lies by cell is its own table.  Else one is copied, and on CPU one
    that stays in the cache and that the allocator can reuse is twice as fast
    as one for the whole map; a GPU takes it all at once.
    """
    num_bins = len(count)
    if by_cell or count.is_cuda:
        yield slice(0, num_bins), slice(None)
        return
    step = max(1, 2**20 // max(1, shape.numel() // num_bins))
    stop = [0] + count.sum(1).cumsum(0).tolist()
    for first in range(0, num_bins, step):
        last = min(first + step, num_bins)
        yield slice(first, last), slice(stop[first], stop[last])


def _row(taps: Taps, bins: slice, part: slice, shape: torch.Size, by_cell: bool) -> Tensor:
    """Row of each tap in a table: (B, H, W, P*P), or (bins, B, H, W)."""
    of_bin = taps.bag[part].div(max(taps.count.size(1), 1), rounding_mode='floor')
    if by_cell:
        return taps.cell[part] * len(taps.count) + of_bin
    cells = shape[0] * shape[3] * shape[4]
    return taps.cell[part] + (of_bin - bins.start) * cells
