"""Shared parts of the position-sensitive RoI operators.

A position-sensitive map holds ``P * P`` maps for each output channel: bin ``(row, col)`` of an
RoI reads channel ``(c_out * P + row) * P + col`` and no other. A pooled value is a weighted
sum of cells of that map, and the weights are the same for all output channels.

Shapes: B images, C output channels, P bins on each side, K RoIs, maps of H x W cells.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Permutations of (B, C, P*P, H, W) that make the C values of a cell a row of memory.
CELL_MAJOR = (0, 3, 4, 2, 1)
BIN_MAJOR = (2, 0, 3, 4, 1)


def check_arguments(input: Tensor, rois: Tensor, output_size: int) -> Tensor:
    """Check the arguments of an operator and unflatten the bins of its map.

    Args:
        input (Tensor): (B, C*P*P, H, W) or (B, C, P*P, H, W).
        rois (Tensor): (K, 5), rows of (batch index, x1, y1, x2, y2).
        output_size (int): P.

    Returns:
        Tensor: (B, C, P*P, H, W), a view of ``input``.

    Raises:
        ValueError: if a shape or ``output_size`` is wrong, the map has 2^31 or more cells, the
            devices differ, or a batch index is outside the batch. Batch indices are checked on
            CPU only, because reading the RoIs would stall the queue of a GPU.
    """
    if output_size < 1:
        raise ValueError(f'output_size must be at least 1, got {output_size}')
    maps = _unflatten_bins(input, output_size**2)
    _check_rois(rois, maps)
    return maps


def _unflatten_bins(input: Tensor, bins: int) -> Tensor:
    shape = tuple(input.shape)
    if input.dim() not in (4, 5):
        raise ValueError(
            f'input must have shape (B, C*P*P, H, W) or (B, C, P*P, H, W), got {shape}'
        )
    channels = input.shape[1:-2].numel()
    if channels == 0 or channels % bins:
        raise ValueError(
            f'input channels must be a multiple of output_size^2 = {bins}, '
            f'got {channels} (input of shape {shape})'
        )
    if input.dim() == 5 and input.size(2) != bins:
        raise ValueError(
            f'dimension 2 of input must be output_size^2 = {bins}, '
            f'got {shape[2]} (input of shape {shape})'
        )
    if shape[0] * bins * shape[-2] * shape[-1] >= 2**31:
        raise ValueError(
            f'input of shape {shape} has too many cells for 32-bit indices; '
            'pool fewer images at a time'
        )
    return input if input.dim() == 5 else input.unflatten(1, (-1, bins))


def _check_rois(rois: Tensor, maps: Tensor) -> None:
    if rois.dim() != 2 or rois.size(1) != 5:
        raise ValueError(
            'rois must have shape (K, 5), rows of (batch index, x1, y1, x2, y2), '
            f'got {tuple(rois.shape)}'
        )
    if rois.device != maps.device:
        raise ValueError(
            f'rois and input must be on the same device, got {rois.device} and {maps.device}'
        )
    if rois.device.type != 'cpu' or torch.compiler.is_compiling():
        return
    index = rois[:, 0]
    outside = ~((index >= 0) & (index < maps.size(0)))
    if outside.any():
        raise ValueError(
            f'rois[{int(outside.nonzero()[0])}] has batch index {index[outside][0]:g}, '
            f'outside the batch of {maps.size(0)} images'
        )


def split_rois(rois: Tensor) -> tuple[Tensor, Tensor]:
    """Split RoIs into batch indices and boxes.

    Boxes are float32 or float64, because half precision has too few digits for pixel
    coordinates. A box that is not finite is moved outside the map, where every operator pools
    zero.

    Args:
        rois (Tensor): (K, 5).

    Returns:
        tuple[Tensor, Tensor]: batch indices (K,), int32, and boxes (K, 4).
    """
    batch = rois[:, 0].int()
    boxes = rois[:, 1:]
    if boxes.dtype != torch.float64:
        boxes = boxes.float()
    finite = boxes.isfinite().all(dim=1, keepdim=True)
    return batch, torch.where(finite, boxes, boxes.new_full((), -1e6))


class BinCells(NamedTuple):
    """The N cells that the bins of all RoIs read, sorted by bin and then by RoI.

    Attributes:
        cell (Tensor): (N,), int32, index ``(batch * H + y) * W + x`` of the cell.
        weight (Tensor): (N,), float, weight of the cell in its bin.
        bag (Tensor): (N,), int32, index ``bin * K + roi`` of the bin.
        count (Tensor): (P*P, K), int64, number of cells of each bin of each RoI.
    """

    cell: Tensor
    weight: Tensor
    bag: Tensor
    count: Tensor


def gather_cells(maps: Tensor, cells: BinCells, average_bins: bool) -> Tensor:
    """Compute the weighted sum of the cells of each bin.

    Args:
        maps (Tensor): (B, C, P*P, H, W). A cell-major map (see :func:`is_cell_major`) is read
            without a copy. Gradients flow to ``maps`` only.
        cells (BinCells): cells and weights.
        average_bins (bool): whether to average over the bins of each RoI.

    Returns:
        Tensor: (P*P, K, C), or (K, C) with ``average_bins``, in the dtype of ``maps``.
    """
    return _GatherCells.apply(maps, *cells, average_bins)


class _GatherCells(Function):
    @staticmethod
    def forward(ctx, maps: Tensor, cell, weight, bag, count, average_bins: bool) -> Tensor:
        ctx.save_for_backward(cell, weight, bag, count)
        ctx.average_bins, ctx.shape = average_bins, maps.shape
        ctx.cell_major = is_cell_major(maps)
        return _gather(maps, BinCells(cell, weight, bag, count), average_bins)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple:
        cells = BinCells(*ctx.saved_tensors)
        grad = scatter_cells(grad, cells, ctx.shape, ctx.average_bins, ctx.cell_major)
        return grad, None, None, None, None, None


def _gather(maps: Tensor, cells: BinCells, average_bins: bool) -> Tensor:
    """Sum rows of a table of cells with ``embedding_bag``, which stores nothing of size N * C."""
    cell_major = is_cell_major(maps)
    sums = []
    for bins, part in _chunks(maps.shape, cells.count, cell_major):
        table = maps[:, :, bins].permute(CELL_MAJOR if cell_major else BIN_MAJOR)
        table = table.to(accumulation_dtype(maps)).flatten(0, 3).contiguous()
        rows = _table_rows(cells, bins, part, maps.shape, cell_major)
        bag_sizes = cells.count[bins].flatten()
        chunk = F.embedding_bag(
            rows,
            table,
            (bag_sizes.cumsum(0) - bag_sizes).to(rows.dtype),
            mode='sum',
            per_sample_weights=_weights(cells, part, average_bins).to(table.dtype),
        )
        chunk = chunk.view(*cells.count[bins].shape, maps.size(1))
        sums.append(chunk.sum(0, keepdim=True) if average_bins else chunk)
    total = torch.cat(sums)
    return (total.sum(0) if average_bins else total).to(maps.dtype)


def scatter_cells(
    grad: Tensor, cells: BinCells, shape: torch.Size, average_bins: bool, cell_major: bool
) -> Tensor:
    """Compute the adjoint of :func:`gather_cells`: the gradient of the maps.

    Each cell of the result is written once, and the order of each sum is fixed.

    Args:
        grad (Tensor): (P*P, K, C), or (K, C) with ``average_bins``.
        cells (BinCells): cells and weights.
        shape (torch.Size): shape of the maps, (B, C, P*P, H, W).
        average_bins (bool): as in :func:`gather_cells`.
        cell_major (bool): whether to lay the result out in memory as (B, H, W, P*P, C).

    Returns:
        Tensor: (B, C, P*P, H, W), in the dtype of ``grad``.
    """
    num_bins, num_rois = cells.count.shape
    batch, channels, _, height, width = shape
    result = None if cell_major else grad.new_empty(shape)
    table = grad.to(accumulation_dtype(grad)).contiguous()
    for bins, part in _chunks(shape, cells.count, cell_major):
        chunk_bins = bins.stop - bins.start
        rows = _table_rows(cells, bins, part, shape, cell_major)
        bag_sizes = torch.bincount(rows, minlength=chunk_bins * batch * height * width)
        order = rows.argsort(stable=True)
        del rows  # as large as the list of cells
        source = cells.bag[part][order]  # row of `grad` that each cell receives
        source = source % num_rois if average_bins else source - bins.start * num_rois
        sums = F.embedding_bag(
            source,
            table if average_bins else table[bins].flatten(0, 1),
            (bag_sizes.cumsum(0) - bag_sizes).to(source.dtype),
            mode='sum',
            per_sample_weights=_weights(cells, part, average_bins)[order].to(table.dtype),
        )
        if cell_major:
            sums = sums.view(batch, height, width, num_bins, channels)
            return sums.permute(0, 4, 3, 1, 2).to(grad.dtype)
        sums = sums.view(chunk_bins, batch, height, width, channels)
        result[:, :, bins] = sums.permute(1, 4, 0, 2, 3)
    return result


def accumulation_dtype(maps: Tensor) -> torch.dtype:
    """Return the dtype of sums over ``maps``: float32 or wider."""
    return torch.promote_types(maps.dtype, torch.float32)


def is_cell_major(maps: Tensor) -> bool:
    """Return whether (B, C, P*P, H, W) lies in memory as (B, H, W, P*P, C)."""
    return maps.permute(CELL_MAJOR).is_contiguous()


def _chunks(shape: torch.Size, count: Tensor, cell_major: bool) -> Iterator[tuple[slice, slice]]:
    """Yield bins to process together, and their part of the list of cells.

    A cell-major map is a table of cells already. Any other map is copied; on CPU a copy of a
    few bins, which stays in the cache, is twice as fast as a copy of all.
    """
    num_bins = len(count)
    if cell_major or count.is_cuda:
        yield slice(0, num_bins), slice(None)
        return
    step = max(1, 2**20 // max(1, shape.numel() // num_bins))
    stops = [0] + count.sum(1).cumsum(0).tolist()
    for first in range(0, num_bins, step):
        last = min(first + step, num_bins)
        yield slice(first, last), slice(stops[first], stops[last])


def _table_rows(
    cells: BinCells, bins: slice, part: slice, shape: torch.Size, cell_major: bool
) -> Tensor:
    """Return the row of each cell in a table (B, H, W, P*P), or (bins, B, H, W)."""
    bin_index = cells.bag[part].div(max(cells.count.size(1), 1), rounding_mode='floor')
    if cell_major:
        return cells.cell[part] * len(cells.count) + bin_index
    return cells.cell[part] + (bin_index - bins.start) * (shape[0] * shape[3] * shape[4])


def _weights(cells: BinCells, part: slice, average_bins: bool) -> Tensor:
    weight = cells.weight[part]
    return weight / len(cells.count) if average_bins else weight
