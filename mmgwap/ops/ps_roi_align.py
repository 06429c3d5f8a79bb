"""Position-sensitive RoI align: the bilinear form of R-FCN's pooling.

Position-sensitive bins: Dai et al., R-FCN, arXiv 1605.06409, equation 1.
Bilinear sampling: He et al., Mask R-CNN, arXiv 1703.06870, section 3.  Same
results as torchvision's ``ps_roi_align``, but for adaptive sampling of RoIs
without area, which gives NaN there and 0 here.
"""

import torch
from mmcv.ops import roi_align
from torch import Tensor, nn
from torch.autograd import Function

from .position_sensitive import check_arguments, split_rois


def ps_roi_align(
    input: Tensor, rois: Tensor, output_size: int, spatial_scale: float, sampling_ratio: int = 2
) -> Tensor:
    """Average bilinear samples of each bin of each RoI over that bin's map.

    mmcv's ``roi_align`` does the sampling, with one trick: the bin becomes
    part of the batch index, ``(B, C*P*P, H, W) -> (B*P*P, C, H, W)``, and each
    bin is pooled as a RoI of its own to 1x1.  So no bin of a wrong map is
    computed, and the result runs wherever mmcv's operator does: CPU, CUDA, and
    ONNX as the standard ``RoiAlign`` (``torch.onnx.export(...,
    opset_version=16, dynamo=False)``).

    Args:
        input (Tensor): position-sensitive map, (B, C*P*P, H, W), with channel
            ``(c_out * P + row) * P + col``, or (B, C, P*P, H, W).
        rois (Tensor): (K, 5), rows of (batch index, x1, y1, x2, y2) in pixels
            of the image; pixel centres lie at .5.  No gradient flows to them.
        output_size (int): P, the bins on each side.
        spatial_scale (float): cells per pixel, 1 / stride of the map.
        sampling_ratio (int): samples along each side of a bin; 0 takes as many
            as the bin has cells, rounded up.

    Returns:
        Tensor: (K, C, P, P), in the dtype of ``input``.

    Raises:
        ValueError: if a shape does not fit.
    """
    maps = check_arguments(input, rois, output_size)
    channels = maps.size(1)
    maps = maps.transpose(1, 2).flatten(0, 1)
    # mmcv reads memory as it lies and both arguments as one dtype: a map that
    # is not contiguous comes out wrong without a word, and half has too few
    # digits for coordinates.
    exact = maps if maps.dtype == torch.float64 else maps.float()
    exact = exact.contiguous()
    bins_as_rois = _bins_as_rois(rois, output_size).to(exact.dtype)
    if torch.onnx.is_in_onnx_export():
        pooled = _ExportedRoIAlign.apply(exact, bins_as_rois, spatial_scale, sampling_ratio)
    else:
        pooled = roi_align(exact, bins_as_rois, (1, 1), spatial_scale, sampling_ratio)
    pooled = pooled.view(-1, output_size, output_size, channels)
    return pooled.permute(0, 3, 1, 2).to(input.dtype)


def _bins_as_rois(rois: Tensor, output_size: int) -> Tensor:
    """Cut each RoI, (K, 5), into its bins: (K*P*P, 5)."""
    batch, boxes = split_rois(rois)
    corner, far = boxes[:, None, :2], boxes[:, None, 2:]
    # mmcv refuses negative sizes on CPU and not on CUDA: an inverted RoI
    # counts as one without area on both.
    # By a tensor: by a number, CUDA multiplies by the rounded reciprocal.
    size = (far - corner).clamp(min=0) / boxes.new_full((), output_size)
    step = torch.arange(output_size, device=rois.device, dtype=boxes.dtype)
    row, col = torch.meshgrid(step, step, indexing='ij')
    grid = torch.stack([col, row], dim=-1).view(1, -1, 2)
    start = corner + grid * size
    index = batch[:, None] * output_size**2 + torch.arange(output_size**2, device=rois.device)
    index = index[..., None].to(boxes.dtype)
    return torch.cat([index, start, start + size], dim=-1).view(-1, 5)


class _ExportedRoIAlign(Function):
    """RoI align to 1x1 that an ONNX export writes as one ``RoiAlign``.

    mmcv has a rule of its own for that, for opset 11, whose operator makes
    every RoI at least a cell large; bins are often smaller.
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
            f'output_size={self.output_size}, '
            f'spatial_scale={self.spatial_scale:g}, '
            f'sampling_ratio={self.sampling_ratio}'
        )
