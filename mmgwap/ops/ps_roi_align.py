"""Position-sensitive RoI align: the bilinear form of R-FCN's pooling.

Position-sensitive bins: Dai et al., R-FCN, arXiv 1605.06409, equation 1. Bilinear sampling: He
et al., Mask R-CNN, arXiv 1703.06870, section 3. The results equal torchvision's
``ps_roi_align``, except for adaptive sampling of RoIs without area: NaN there, 0 here.
"""

import torch
from mmcv.ops import roi_align
from torch import Tensor, nn
from torch.autograd import Function

from .bin_cells import BinCells, check_arguments, split_rois


def ps_roi_align(
    input: Tensor, rois: Tensor, output_size: int, spatial_scale: float, sampling_ratio: int = 2
) -> Tensor:
    """Average bilinear samples of each bin of each RoI over the bin's own map.

    The samples come from mmcv's ``roi_align``. The bin becomes part of the batch index,
    ``(B, C*P*P, H, W) -> (B*P*P, C, H, W)``. Each bin is then pooled to 1x1 as an RoI of its own,
    so no bin reads another bin's map. The operator runs wherever mmcv's does: CPU, CUDA, and ONNX
    as the standard ``RoiAlign`` (``torch.onnx.export(..., opset_version=16, dynamo=False)``).

    Args:
        input (Tensor): position-sensitive map, (B, C*P*P, H, W), with channel
            ``(c_out * P + row) * P + col``, or (B, C, P*P, H, W).
        rois (Tensor): (K, 5), rows of (batch index, x1, y1, x2, y2) in pixels of the image;
            pixel centres lie at .5. No gradient flows to the RoIs.
        output_size (int): P, the number of bins on each side.
        spatial_scale (float): cells per pixel, 1 / stride of the map.
        sampling_ratio (int): samples along each side of a bin; 0 takes as many as the bin has
            cells, rounded up.

    Returns:
        Tensor: (K, C, P, P), in the dtype of ``input``.

    Raises:
        ValueError: if a shape does not fit.

    Example:
        >>> maps = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 8, 8)
        >>> rois = torch.tensor([[0.0, 16, 16, 96, 96]])
        >>> ps_roi_align(maps, rois, output_size=2, spatial_scale=1 / 16).round()
        tensor([[[[0., 1.],
                  [2., 3.]]]])
    """
    maps = check_arguments(input, rois, output_size)
    channels = maps.size(1)
    maps = maps.transpose(1, 2).flatten(0, 1)
    # mmcv's kernel needs contiguous maps (others give wrong values without an error) and RoIs in
    # the dtype of the maps; half precision has too few digits for coordinates.
    maps = (maps if maps.dtype == torch.float64 else maps.float()).contiguous()
    bins_as_rois = _bins_as_rois(rois, output_size).to(maps.dtype)
    if torch.onnx.is_in_onnx_export():
        pooled = _ExportedRoIAlign.apply(maps, bins_as_rois, spatial_scale, sampling_ratio)
    else:
        pooled = roi_align(maps, bins_as_rois, (1, 1), spatial_scale, sampling_ratio)
    pooled = pooled.view(-1, output_size, output_size, channels)
    return pooled.permute(0, 3, 1, 2).to(input.dtype)


def _bins_as_rois(rois: Tensor, output_size: int) -> Tensor:
    """Cut each RoI, (K, 5), into its bins: (K*P*P, 5)."""
    batch, boxes = split_rois(rois)
    corner, far = boxes[:, None, :2], boxes[:, None, 2:]
    # Clamp inverted RoIs to zero area: mmcv raises for negative sizes on CPU, but not on CUDA.
    # A tensor divisor: for a Python number CUDA multiplies by the rounded reciprocal.
    size = (far - corner).clamp(min=0) / boxes.new_full((), output_size)
    step = torch.arange(output_size, device=rois.device, dtype=boxes.dtype)
    row, col = torch.meshgrid(step, step, indexing='ij')
    grid = torch.stack([col, row], dim=-1).view(1, -1, 2)
    start = corner + grid * size
    index = batch[:, None] * output_size**2 + torch.arange(output_size**2, device=rois.device)
    index = index[..., None].to(boxes.dtype)
    return torch.cat([index, start, start + size], dim=-1).view(-1, 5)


class _ExportedRoIAlign(Function):
    """RoI align to 1x1 that the ONNX exporter writes as one ``RoiAlign``.

    mmcv's own export rule is for opset 11, whose operator makes each RoI at least a cell large;
    bins are often smaller.
    """

    @staticmethod
    def forward(
        ctx, input: Tensor, rois: Tensor, spatial_scale: float, sampling_ratio: int
    ) -> Tensor:
        return roi_align(input, rois, (1, 1), spatial_scale, sampling_ratio)

    @staticmethod
    def symbolic(g, input, rois, spatial_scale: float, sampling_ratio: int):
        def columns(*index: int):
            index = g.op('Constant', value_t=torch.tensor(index))
            return g.op('Gather', rois, index, axis_i=1)

        axis = g.op('Constant', value_t=torch.tensor([1]))
        batch = g.op(
            'Cast', g.op('Squeeze', columns(0), axis), to_i=torch.onnx.TensorProtoDataType.INT64
        )
        return g.op(
            'RoiAlign',
            input,
            columns(1, 2, 3, 4),
            batch,
            coordinate_transformation_mode_s='half_pixel',
            mode_s='avg',
            output_height_i=1,
            output_width_i=1,
            sampling_ratio_i=sampling_ratio,
            spatial_scale_f=spatial_scale,
        )


def align_cells(
    rois: Tensor, output_size: int, spatial_scale: float, samples: int, height: int, width: int
) -> BinCells:
    """Return the ``4 * samples**2`` cells that each bin interpolates.

    The samples of a bin form a grid and bilinear weights are products, so the weight of a cell
    is the product of its weights along both axes.
    """
    batch, boxes = split_rois(rois)
    boxes = boxes * spatial_scale - 0.5  # in cells, whose centres lie at integers
    x, x_weight = _axis_cells(boxes[:, 0], boxes[:, 2], output_size, samples, width)
    y, y_weight = _axis_cells(boxes[:, 1], boxes[:, 3], output_size, samples, height)
    # (row of bins, column of bins, RoI, cell in y, cell in x)
    row = (batch[:, None] * height + y)[:, None, :, :, None] * width
    cell = row + x[None, :, :, None, :]
    weight = y_weight[:, None, :, :, None] * x_weight[None, :, :, None, :]
    cells_per_bin = (2 * samples) ** 2
    count = cell.new_full((output_size**2, len(rois)), cells_per_bin, dtype=torch.int64)
    bag = torch.arange(count.numel(), device=cell.device, dtype=cell.dtype)
    bag = bag[:, None].expand(-1, cells_per_bin)
    return BinCells(cell.flatten(), weight.flatten(), bag.flatten(), count)


def _axis_cells(
    low: Tensor, high: Tensor, bins: int, samples: int, length: int
) -> tuple[Tensor, Tensor]:
    """Return the cells and weights of each bin's samples along one axis.

    As in RoI align, a sample more than one cell outside the map counts as 0, and a nearer
    sample takes the value at the border.

    Returns:
        tuple[Tensor, Tensor]: (P, K, 2 * samples), int32 and float; the weights of a bin inside
        the map sum to 1.
    """
    step = torch.arange(bins * samples, device=low.device, dtype=low.dtype)
    # Tensor divisors: for a Python number CUDA multiplies by the rounded reciprocal.
    step = ((step + 0.5) / step.new_full((), samples)).view(bins, 1, samples)
    size = (high - low).clamp(min=0) / low.new_full((), bins)
    position = low[:, None] + step * size[:, None]
    inside = (position >= -1) & (position <= length)
    position = position.clamp(0, length)
    lower = position.floor().clamp(max=length - 1)
    fraction = position - lower
    cell = torch.cat([lower, (lower + 1).clamp(max=length - 1)], dim=-1)
    weight = torch.cat([1 - fraction, fraction], dim=-1)
    return cell.int(), weight * inside.repeat(1, 1, 2) / samples


class PSRoIAlign(nn.Module):
    """Module form of :func:`ps_roi_align`."""

    def __init__(self, output_size: int, spatial_scale: float, sampling_ratio: int = 2) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        return ps_roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio)

    def extra_repr(self) -> str:
        return (
            f'output_size={self.output_size}, spatial_scale={self.spatial_scale:g}, '
            f'sampling_ratio={self.sampling_ratio}'
        )
