"""What the position-sensitive RoI operators share: checks and summation.

A position-sensitive map holds ``P * P`` maps for each output channel, one for
each bin of a RoI: channel ``(c_out * P + row) * P + col`` is read by bin
``(row, col)`` alone.  Whatever the sampling, a pooled value is a weighted sum
of cells of its bin's map, and the weights are the same for all channels.
"""
from typing import Iterator, NamedTuple, Tuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Taps(NamedTuple):
    """The cells that bins read, sorted by bin and then by RoI.

    Attributes:
        cell (Tensor): (T,), int64, ``(batch * H + y) * W + x``.
        weight (Tensor): (T,), float.
        bag (Tensor): (T,), int64, whose cell it is: ``bin * K + roi``.
        count (Tensor): (P*P, K), int64, cells of each bin of each RoI.
    """
    cell: Tensor
    weight: Tensor
    bag: Tensor
    count: Tensor


def check_arguments(input: Tensor, rois: Tensor, output_size: int) -> None:
    """Refuse what cannot be pooled, naming the shape that is wrong.

    Raises:
        ValueError: if a shape or ``output_size`` is wrong, or a RoI names an
            image outside of the batch (checked on CPU only: on a GPU it would
            stall the queue).
    """
    if output_size < 1:
        raise ValueError(f'output_size must be at least 1, got {output_size}')
    if input.dim() != 4:
        raise ValueError('input must have shape (B, C*P*P, H, W), got '
                         f'{tuple(input.shape)}')
    if input.size(1) == 0 or input.size(1) % output_size**2:
        raise ValueError(
            f'input has {input.size(1)} channels (shape {tuple(input.shape)}),'
            f' which must be a multiple of output_size^2 = {output_size**2}')
    if rois.dim() != 2 or rois.size(1) != 5:
        raise ValueError('rois must have shape (K, 5), rows of (batch index, '
                         f'x1, y1, x2, y2), got {tuple(rois.shape)}')
    if rois.device.type == 'cpu' and not torch.compiler.is_compiling():
        index = rois[:, 0]
        wrong = ~((index >= 0) & (index < input.size(0)))
        if wrong.any():
            raise ValueError(
                f'rois[{int(wrong.nonzero()[0])}] has batch index '
                f'{index[wrong][0]:g}, but input holds {input.size(0)} images')


def split_rois(rois: Tensor) -> Tuple[Tensor, Tensor]:
    """Split RoIs into batch index and box, in a dtype fit for coordinates.

    Half precision has too few digits for pixel coordinates, and a box that is
    not finite has no place on the map: it is moved outside, where every
    operator pools zero.

    Args:
        rois (Tensor): (K, 5).

    Returns:
        tuple[Tensor, Tensor]: batch indices (K,), int64, and boxes (K, 4),
        float32 or float64.
    """
    batch = rois[:, 0].long()
    boxes = rois[:, 1:]
    if boxes.dtype != torch.float64:
        boxes = boxes.float()
    finite = boxes.isfinite().all(dim=1, keepdim=True)
    return batch, torch.where(finite, boxes, boxes.new_full((), -1e6))


def sum_taps(input: Tensor, taps: Taps, vote: bool) -> Tensor:
    """Weighted sums of the cells of each bin.

    Args:
        input (Tensor): (B, C*P*P, H, W); gradients flow to it alone.
        taps (Taps): which cells, and how much of each.
        vote (bool): whether to add up the bins of a RoI.

    Returns:
        Tensor: (P*P, K, C), or (K, C) with ``vote``, in the dtype of
        ``input``, accumulated in at least float32.
    """
    return _SumTaps.apply(input, *taps, vote)


class _SumTaps(Function):
    """``embedding_bag`` over a table whose rows are the C values of a cell.

    It gathers, multiplies and adds in one pass: nothing of the size T * C is
    stored.  The gradient is the same operation with RoIs and cells exchanged,
    so it writes each cell once, in a fixed order.
    """

    @staticmethod
    def forward(ctx, input: Tensor, cell: Tensor, weight: Tensor, bag: Tensor,
                count: Tensor, vote: bool) -> Tensor:
        ctx.save_for_backward(cell, weight, bag, count)
        ctx.like, ctx.vote = input.new_empty(0), vote
        ctx.shape = input.shape
        batch, channels, *size = input.shape
        maps = input.reshape(batch, channels // len(count), len(count),
                             size[0] * size[1])
        sums = []
        for bins, part in _chunks(maps, count):
            rows = maps[:, :, bins].permute(2, 0, 3, 1).reshape(
                -1, maps.size(1)).to(_exact(input)).contiguous()
            size = count[bins].flatten()
            chunk = F.embedding_bag(
                _row(cell[part], bag[part], bins, len(rows), count), rows,
                size.cumsum(0) - size, mode='sum',
                per_sample_weights=weight[part].to(rows.dtype))
            chunk = chunk.view(*count[bins].shape, maps.size(1))
            sums.append(chunk.sum(0, keepdim=True) if vote else chunk)
        total = torch.cat(sums)
        return (total.sum(0) if vote else total).to(input.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple:
        cell, weight, bag, count = ctx.saved_tensors
        num_bins, num_rois = count.shape
        batch, channels, *size = ctx.shape
        result = ctx.like.new_empty(batch, channels // num_bins, num_bins,
                                    size[0] * size[1])
        grad = grad.to(_exact(ctx.like)).contiguous()
        for bins, part in _chunks(result, count):
            # Which row of the gradient each tap hands on.
            giver = bag[part] % num_rois if ctx.vote else \
                bag[part] - bins.start * num_rois
            source = grad if ctx.vote else grad[bins].flatten(0, 1)
            num_rows = result[:, 0, bins].numel()
            row, order = _row(cell[part], bag[part], bins, num_rows,
                              count).int().sort()
            start = torch.searchsorted(row, torch.arange(
                num_rows, device=row.device, dtype=row.dtype))
            rows = F.embedding_bag(
                giver[order], source, start, mode='sum',
                per_sample_weights=weight[part][order].to(grad.dtype))
            result[:, :, bins] = rows.view(
                -1, batch, result.size(3), result.size(1)).permute(1, 3, 0, 2)
        return result.view(ctx.shape), None, None, None, None, None


def _exact(input: Tensor) -> torch.dtype:
    """The dtype to accumulate in."""
    return torch.promote_types(input.dtype, torch.float32)


def _chunks(maps: Tensor, count: Tensor) -> Iterator[Tuple[slice, slice]]:
    """Bins to work on at a time, and their part of the taps.

    On CPU, a table that stays in the cache and that the allocator can reuse is
    twice as fast as one for the whole map; a GPU takes it all at once.

    Args:
        maps (Tensor): (B, C, P*P, H*W).
    """
    num_bins = len(count)
    if maps.is_cuda:
        yield slice(0, num_bins), slice(None)
        return
    step = max(1, 2**20 // max(1, maps[:, :, 0].numel()))
    stop = [0] + count.sum(1).cumsum(0).tolist()
    for first in range(0, num_bins, step):
        last = min(first + step, num_bins)
        yield slice(first, last), slice(stop[first], stop[last])


def _row(cell: Tensor, bag: Tensor, bins: slice, num_rows: int,
         count: Tensor) -> Tensor:
    """Row of each tap in the table of some bins, (bins, batch, cells)."""
    of_bin = bag.div(max(count.size(1), 1), rounding_mode='floor')
    rows_of_bin = num_rows // (bins.stop - bins.start)
    return cell + (of_bin - bins.start) * rows_of_bin
