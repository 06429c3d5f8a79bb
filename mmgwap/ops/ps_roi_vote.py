"""Position-sensitive RoI pooling and voting in one pass.

R-FCN (Dai et al., arXiv 1605.06409, section 2) scores a RoI by the mean over
its bins, so the bins themselves are never needed: the vote is a weighted sum
of map rows, with weights that depend on the RoI alone.
"""

import torch
from torch import Tensor, nn

from .kernels import use_kernels
from .position_sensitive import check_arguments
from .ps_roi_align import ps_roi_align
from .taps import BY_CELL, sum_taps
from .vote_taps import vote_taps

MODES = ('pool', 'align')
# On a CPU, without a gradient: the taps of more leave the cache.  With one,
# each part would write a gradient of the whole map.
ROIS_AT_ONCE = 512


def ps_roi_vote(
    input: Tensor,
    rois: Tensor,
    output_size: int,
    spatial_scale: float,
    mode: str = 'align',
    sampling_ratio: int = 2,
) -> Tensor:
    """Mean over the bins of a position-sensitive pooling.

    Equals ``ps_roi_pool(...).mean((2, 3))`` or ``ps_roi_align(...).mean((2,
    3))``, empty bins counting as 0, without storing the bins.

    Args:
        input (Tensor): position-sensitive map, (B, C*P*P, H, W), with channel
            ``(c_out * P + row) * P + col``, or (B, C, P*P, H, W), which is
            read without a copy if it lies in memory as (B, H, W, P*P, C).
        rois (Tensor): (K, 5), rows of (batch index, x1, y1, x2, y2) in pixels
            of the image.  No gradient flows to them.  On a GPU they are not
            looked at, for which the queue would have to be waited for: there
            the Triton kernel makes NaN of one that names no image.
        output_size (int): P, the bins on each side.
        spatial_scale (float): cells per pixel, 1 / stride of the map.
        mode (str): 'pool', R-FCN's quantised bins, or 'align', bilinear
            samples.
        sampling_ratio (int): samples along each side of a bin, for 'align';
            0 is adaptive, as in :func:`~mmgwap.ops.ps_roi_align`, and pools
            the bins first.

    Returns:
        Tensor: (K, C), in the dtype of ``input``.

    Raises:
        ValueError: if a shape does not fit, ``mode`` is unknown, or, on CPU, a
            RoI names an image outside of the batch.
    """
    if mode not in MODES:
        raise ValueError(f'mode must be one of {MODES}, got {mode!r}')
    if mode == 'align' and (sampling_ratio < 1 or torch.onnx.is_in_onnx_export()):
        # The number of samples is known at run time only, or the standard
        # operator is wanted.
        return ps_roi_align(input, rois, output_size, spatial_scale, sampling_ratio).mean((2, 3))
    maps = check_arguments(input, rois, output_size)
    samples = sampling_ratio if mode == 'align' else 0
    if use_kernels(maps):
        return _by_kernel(maps, rois, output_size, spatial_scale, samples)
    if maps.requires_grad and torch.is_grad_enabled() or maps.is_cuda:
        return _by_taps(maps, rois, output_size, spatial_scale, samples)
    return torch.cat(
        [
            _by_taps(maps, part, output_size, spatial_scale, samples)
            for part in rois.split(ROIS_AT_ONCE)
        ]
    )


def _by_taps(maps: Tensor, rois: Tensor, bins: int, scale: float, samples: int) -> Tensor:
    return sum_taps(maps, vote_taps(rois, bins, scale, samples, *maps.shape[-2:]), vote=True)


def _by_kernel(maps: Tensor, rois: Tensor, bins: int, scale: float, samples: int) -> Tensor:
    from .kernels.vote import ps_roi_vote as kernel  # needs Triton

    if rois.dtype != torch.float64:
        rois = rois.float()  # half has too few digits for coordinates
    return kernel(
        maps.permute(BY_CELL).contiguous(), rois.detach().contiguous(), bins, float(scale), samples
    )


class PSRoIVote(nn.Module):
    """Module form of :func:`ps_roi_vote`."""

    def __init__(
        self, output_size: int, spatial_scale: float, mode: str = 'align', sampling_ratio: int = 2
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.mode = mode
        self.sampling_ratio = sampling_ratio

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        return ps_roi_vote(
            input, rois, self.output_size, self.spatial_scale, self.mode, self.sampling_ratio
        )

    def extra_repr(self) -> str:
        return (
            f'output_size={self.output_size}, '
            f'spatial_scale={self.spatial_scale:g}, mode={self.mode!r}, '
            f'sampling_ratio={self.sampling_ratio}'
        )
