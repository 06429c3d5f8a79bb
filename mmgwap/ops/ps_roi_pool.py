"""Position-sensitive RoI pooling.

R-FCN: Dai et al., "R-FCN: Object Detection via Region-based Fully Convolutional Networks", NIPS
2016, arXiv 1605.06409, equation 1. The paper leaves rounding open. This module follows the
authors' Caffe operator (``psroi_pooling_layer.cu``). torchvision's ``ps_roi_pool`` is another
operator: it never reads the last row and column of the map.
"""

import torch
from torch import Tensor, nn

from .bin_cells import BinCells, check_arguments, gather_cells, split_rois


def ps_roi_pool(input: Tensor, rois: Tensor, output_size: int, spatial_scale: float) -> Tensor:
    """Average each bin of each RoI over its own map.

    With ``start = round(x1) * spatial_scale``, ``end = (round(x2) + 1) * spatial_scale`` and
    ``size = max(end - start, 0.1)``, bin ``i`` covers the cells from ``floor(i * size / P +
    start)`` up to, excluding, ``ceil((i + 1) * size / P + start)``, clipped to the map; likewise
    in y. ``round`` rounds halves away from zero. A bin without cells is 0.

    Args:
        input (Tensor): position-sensitive map, (B, C*P*P, H, W), with channel
            ``(c_out * P + row) * P + col``, or (B, C, P*P, H, W).
        rois (Tensor): (K, 5), rows of (batch index, x1, y1, x2, y2) in pixels of the image. No
            gradient flows to the RoIs.
        output_size (int): P, the number of bins on each side.
        spatial_scale (float): cells per pixel, 1 / stride of the map.

    Returns:
        Tensor: (K, C, P, P), in the dtype of ``input``.

    Raises:
        ValueError: if a shape does not fit.

    Example:
        >>> maps = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 8, 8)
        >>> rois = torch.tensor([[0.0, 16, 16, 95, 95]])
        >>> ps_roi_pool(maps, rois, output_size=2, spatial_scale=1 / 16).round()
        tensor([[[[0., 1.],
                  [2., 3.]]]])
    """
    maps = check_arguments(input, rois, output_size)
    cells = pool_cells(rois, output_size, spatial_scale, *maps.shape[-2:])
    pooled = gather_cells(maps, cells, average_bins=False)
    pooled = pooled.view(output_size, output_size, *pooled.shape[1:])
    return pooled.permute(2, 3, 0, 1).contiguous()


def pool_cells(
    rois: Tensor, output_size: int, spatial_scale: float, height: int, width: int
) -> BinCells:
    """Return the cells that each quantised bin averages."""
    batch, boxes = split_rois(rois)
    left, columns = _bin_range(boxes[:, 0], boxes[:, 2], output_size, spatial_scale, width)
    top, rows = _bin_range(boxes[:, 1], boxes[:, 3], output_size, spatial_scale, height)
    count = (rows[:, None] * columns).flatten(0, 1)
    first = (batch * height * width + top[:, None] * width + left).flatten()
    # For each cell of each bin: the bin, and the rank of the cell in the bin, row by row.
    flat = count.flatten()
    bag = torch.arange(len(flat), device=flat.device, dtype=torch.int32).repeat_interleave(flat)
    rank = torch.arange(len(bag), device=flat.device, dtype=torch.int32)
    rank = rank - (flat.cumsum(0) - flat).int()[bag]
    columns = columns.expand(output_size, -1, -1).flatten()[bag]
    row = rank.div(columns, rounding_mode='floor')
    cell = first[bag] + row * width + rank - row * columns
    return BinCells(cell, flat.double().reciprocal()[bag], bag, count.long())


def _bin_range(
    low: Tensor, high: Tensor, bins: int, scale: float, length: int
) -> tuple[Tensor, Tensor]:
    """Return the first cell and the number of cells of each bin along one axis, (P, K)."""
    start = _round_half_away(low) * scale
    end = (_round_half_away(high) + 1.0) * scale
    # A tensor divisor: for a Python number CUDA multiplies by the rounded reciprocal.
    size = (end - start).clamp(min=0.1) / start.new_full((), bins)
    step = torch.arange(bins + 1, device=low.device, dtype=low.dtype)
    edge = step[:, None] * size + start
    first = edge[:-1].floor().clamp(0, length)
    last = edge[1:].ceil().clamp(0, length)
    return first.int(), (last - first).clamp(min=0).int()


def _round_half_away(x: Tensor) -> Tensor:
    """Round as C's ``round`` does; ``torch.round`` rounds halves to even."""
    whole = x.trunc()
    return whole + (x - whole).abs().ge(0.5) * x.sign()


class PSRoIPool(nn.Module):
    """Module form of :func:`ps_roi_pool`."""

    def __init__(self, output_size: int, spatial_scale: float) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        return ps_roi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        return f'output_size={self.output_size}, spatial_scale={self.spatial_scale:g}'
