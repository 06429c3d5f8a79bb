"""Position-sensitive RoI pooling and voting in one pass.

R-FCN (Dai et al., arXiv 1605.06409, section 2) scores an RoI by the mean over its bins. The
mean is a weighted sum of cells whose weights depend on the RoI alone, so the bins are never
stored.
"""

import math
from collections.abc import Sequence
from typing import Union

import torch
from torch import Tensor, nn

from .bin_cells import CELL_MAJOR, check_arguments, gather_cells
from .ps_roi_align import align_cells, ps_roi_align
from .ps_roi_pool import pool_cells
from .triton import first_use_matches, use_triton

MODES = ('pool', 'align')
# CPU inference runs in chunks of RoIs whose lists of cells fit in the cache. Training does
# not: every chunk would allocate a gradient of the whole map.
ROIS_PER_CHUNK = 512


def ps_roi_vote(
    input: Union[Tensor, Sequence[Tensor]],
    rois: Tensor,
    output_size: int,
    spatial_scale: float,
    mode: str = 'align',
    sampling_ratio: int = 2,
) -> Union[Tensor, tuple[Tensor, ...]]:
    """Average a position-sensitive pooling over its bins.

    Equals ``ps_roi_pool(...).mean((2, 3))`` or ``ps_roi_align(...).mean((2, 3))``, where empty
    bins count as 0, without storing the bins.

    Args:
        input (Tensor | Sequence[Tensor]): position-sensitive map, (B, C*P*P, H, W), with channel
            ``(c_out * P + row) * P + col``, or (B, C, P*P, H, W). A map of the latter shape
            that lies in memory as (B, H, W, P*P, C) is read without a copy. Several maps may
            differ in C and dtype; their bins are computed once.
        rois (Tensor): (K, 5), rows of (batch index, x1, y1, x2, y2) in pixels of the image. No
            gradient flows to the RoIs. On a GPU the batch indices are not checked, because
            reading them would stall the queue: the Triton kernel returns NaN for an RoI whose
            batch index is outside the batch.
        output_size (int): P, the number of bins on each side.
        spatial_scale (float): cells per pixel, 1 / stride of the map.
        mode (str): 'pool' for R-FCN's quantised bins, 'align' for bilinear samples.
        sampling_ratio (int): samples along each side of a bin in mode 'align'.  0 is adaptive,
            as in :func:`~mmgwap.ops.ps_roi_align`, and stores the bins.

    Returns:
        Tensor | tuple[Tensor]: (K, C) for each map, in the dtype of the map.

    Raises:
        ValueError: if a shape does not fit, ``mode`` is unknown, or, on CPU, a batch index is
            outside the batch.

    Example:
        >>> maps = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 8, 8)
        >>> rois = torch.tensor([[0.0, 16, 16, 95, 95]])
        >>> ps_roi_vote(maps, rois, output_size=2, spatial_scale=1 / 16, mode='pool')
        tensor([[1.5000]])
    """
    if mode not in MODES:
        raise ValueError(f'mode must be one of {MODES}, got {mode!r}')
    inputs = [input] if isinstance(input, Tensor) else list(input)
    if mode == 'align' and (sampling_ratio < 1 or torch.onnx.is_in_onnx_export()):
        # Adaptive sampling has no fixed number of cells; ONNX has a standard operator.
        options = (rois, output_size, spatial_scale, sampling_ratio)
        votes = [ps_roi_align(maps, *options).mean((2, 3)) for maps in inputs]
    else:
        maps = [check_arguments(one, rois, output_size) for one in inputs]
        _check_same_cells(maps)
        samples = sampling_ratio if mode == 'align' else 0
        votes = _vote(maps, rois, output_size, spatial_scale, samples)
    return votes[0] if isinstance(input, Tensor) else tuple(votes)


def _check_same_cells(inputs: list[Tensor]) -> None:
    for maps in inputs[1:]:
        if maps.shape[0] != inputs[0].shape[0] or maps.shape[3:] != inputs[0].shape[3:]:
            raise ValueError(
                'maps must have the same batch size, height and width, got shapes '
                f'{[tuple(maps.shape) for maps in inputs]}'
            )


def _vote(
    inputs: list[Tensor], rois: Tensor, bins: int, scale: float, samples: int
) -> list[Tensor]:
    """Vote with ``samples`` along each side of a bin, or with quantised bins if 0."""
    if rois.dtype != torch.float64:
        rois = rois.float()  # half precision has too few digits for coordinates
    needs_grad = torch.is_grad_enabled() and any(maps.requires_grad for maps in inputs)
    if use_triton(*inputs) and all(
        _triton_matches(
            maps.device, maps.dtype, rois.dtype, needs_grad, int(maps.size(1)), bins, scale, samples
        )
        for maps in inputs
    ):
        return _vote_by_triton(inputs, rois, bins, scale, samples)
    if needs_grad or rois.is_cuda:
        return _vote_by_gather(inputs, rois, bins, scale, samples)
    chunks = [
        _vote_by_gather(inputs, chunk, bins, scale, samples) for chunk in rois.split(ROIS_PER_CHUNK)
    ]
    return [torch.cat(votes) for votes in zip(*chunks)]


@torch.compiler.assume_constant_result
def _triton_matches(
    device: torch.device,
    dtype: torch.dtype,
    rois_dtype: torch.dtype,
    needs_grad: bool,
    channels: int,
    bins: int,
    scale: float,
    samples: int,
) -> bool:
    """Compare the kernel with the PyTorch form on a small map, once for each kind of call."""
    shape = (2, 6, 7, bins**2, channels)

    def small_case() -> list[Tensor]:
        maps = torch.arange(math.prod(shape), device=device).mul(0.7).sin().view(shape).to(dtype)
        maps = maps.permute(0, 4, 3, 1, 2).requires_grad_(needs_grad)
        # In cells: inside the map, over its border, and smaller than a cell.
        rois = [[0, 1.2, 0.7, 4.6, 5.1], [1, -1.5, 2.2, 9, 8], [1, 2.3, 1.1, 2.9, 1.8]]
        rois = torch.tensor(rois, device=device, dtype=rois_dtype)
        rois[:, 1:] /= scale
        with torch.set_grad_enabled(needs_grad):
            votes = _vote([maps], rois, bins, scale, samples)[0]
        gradients = torch.autograd.grad(votes, maps, votes.detach()) if needs_grad else ()
        return [votes.detach(), *gradients]

    name = (
        f'ps_roi_vote of {dtype} with {rois_dtype} RoIs, cell-major, '
        f'{bins} x {bins} bins with {samples or "all cells"} as samples, {channels} channels, '
        f'{"forward and backward" if needs_grad else "forward"}'
    )
    return first_use_matches(name, device, small_case)


def _vote_by_triton(
    inputs: list[Tensor], rois: Tensor, bins: int, scale: float, samples: int
) -> list[Tensor]:
    from .triton import vote  # needs Triton

    rois = rois.detach().contiguous()
    cells = vote.ps_roi_bins(rois, *inputs[0].shape[-2:], bins, float(scale), samples)
    return [
        vote.ps_roi_vote(
            maps.permute(CELL_MAJOR).contiguous(), rois, *cells, bins, float(scale), samples
        )
        for maps in inputs
    ]


def _vote_by_gather(
    inputs: list[Tensor], rois: Tensor, bins: int, scale: float, samples: int
) -> list[Tensor]:
    size = inputs[0].shape[-2:]
    cells = (
        align_cells(rois, bins, scale, samples, *size)
        if samples
        else pool_cells(rois, bins, scale, *size)
    )
    return [gather_cells(maps, cells, average_bins=True) for maps in inputs]


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

    def forward(
        self, input: Union[Tensor, Sequence[Tensor]], rois: Tensor
    ) -> Union[Tensor, tuple[Tensor, ...]]:
        return ps_roi_vote(
            input, rois, self.output_size, self.spatial_scale, self.mode, self.sampling_ratio
        )

    def extra_repr(self) -> str:
        return (
            f'output_size={self.output_size}, spatial_scale={self.spatial_scale:g}, '
            f'mode={self.mode!r}, sampling_ratio={self.sampling_ratio}'
        )
