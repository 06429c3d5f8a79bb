"""``torch.ops.mmgwap.ps_roi_vote``: voting as an operator that torch knows.

It has a meta kernel and a gradient, so that autograd, ``torch.compile`` and
``torch.export`` see one node; what it runs are the Triton kernels.
"""

from typing import List, Tuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..bin_cells import CELL_MAJOR, accumulation_dtype, scatter_cells
from ..ps_roi_align import align_cells
from ..ps_roi_pool import pool_cells
from . import bin_kernels, vote_kernels

# Most channels of a program, and its warps.  Chosen by counting instructions,
# not by timing.
CHANNELS = 128
WARPS = 4
# Of a program that cuts bins.
LANES = 128


@torch.library.custom_op('mmgwap::ps_roi_vote', mutates_args=())
def ps_roi_vote(maps: Tensor, rois: Tensor, bins: int, scale: float, samples: int) -> Tensor:
    """Vote, as :func:`mmgwap.ops.ps_roi_vote` says.

    Args:
        maps (Tensor): (B, H, W, P*P, C), contiguous.
        rois (Tensor): (K, 5), float32 or float64, contiguous.
        samples (int): along each side of a bin; 0 for quantised bins.

    Returns:
        Tensor: (K, C), in the dtype of ``maps``; NaN for a RoI of no image.
    """
    votes = maps.new_empty((len(rois), bins, maps.size(-1)), dtype=accumulation_dtype(maps))
    if not len(maps):
        return votes[:, 0].fill_(torch.nan).to(maps.dtype)
    _launch(vote_kernels.forward, maps, rois, votes, maps.shape, bins, scale, samples)
    return votes.sum(1).to(maps.dtype)


@ps_roi_vote.register_fake
def _(maps: Tensor, rois: Tensor, bins: int, scale: float, samples: int) -> Tensor:
    return maps.new_empty((rois.size(0), maps.size(-1)))


@torch.library.custom_op('mmgwap::ps_roi_vote_backward', mutates_args=())
def ps_roi_vote_backward(
    grad: Tensor, rois: Tensor, shape: List[int], bins: int, scale: float, samples: int
) -> Tensor:
    """Gradient of the maps, whose shape is given.

    With ``torch.use_deterministic_algorithms`` each cell adds its RoIs up in a
    fixed order, for which all that was read has to be sorted.
    """
    if torch.are_deterministic_algorithms_enabled():
        return _in_fixed_order(grad, rois, shape, bins, scale, samples)
    result = grad.new_zeros(shape, dtype=accumulation_dtype(grad))
    _launch(vote_kernels.backward, grad.contiguous(), rois, result, shape, bins, scale, samples)
    return result.to(grad.dtype)


@ps_roi_vote_backward.register_fake
def _(
    grad: Tensor, rois: Tensor, shape: List[int], bins: int, scale: float, samples: int
) -> Tensor:
    return grad.new_empty(shape)


def _in_fixed_order(
    grad: Tensor, rois: Tensor, shape: List[int], bins: int, scale: float, samples: int
) -> Tensor:
    batch, height, width, *_, channels = shape
    known = (rois[:, :1] >= 0) & (rois[:, :1] < batch)
    rois = torch.where(known, rois, rois.new_tensor([0] + 4 * [torch.inf]))
    cells = (
        align_cells(rois, bins, scale, samples, height, width)
        if samples
        else pool_cells(rois, bins, scale, height, width)
    )
    shape = torch.Size((batch, channels, bins**2, height, width))
    result = scatter_cells(grad, cells, shape, average_bins=True, cell_major=True)
    return result.permute(CELL_MAJOR)


def _save(ctx, inputs: tuple, output: Tensor) -> None:
    maps, rois, *ctx.options = inputs
    ctx.shape = list(maps.shape)
    ctx.save_for_backward(rois)


def _backward(ctx, grad: Tensor) -> tuple:
    grad_maps = ps_roi_vote_backward(grad, *ctx.saved_tensors, ctx.shape, *ctx.options)
    return grad_maps, None, None, None, None


ps_roi_vote.register_autograd(_backward, setup_context=_save)


def _launch(
    kernel,
    source: Tensor,
    rois: Tensor,
    result: Tensor,
    shape: List[int],
    bins: int,
    scale: float,
    samples: int,
) -> None:
    """A program for each RoI, row of bins and block of channels."""
    batch, height, width, *_, channels = shape
    if not (len(rois) and batch * height * width * channels):
        result.zero_()
        return
    block = min(CHANNELS, triton.next_power_of_2(channels))
    with torch.cuda.device_of(source):
        cells, weights = _cut(rois, height, width, bins, scale, samples)
        kernel[(len(rois), bins, triton.cdiv(channels, block))](
            source,
            rois,
            cells,
            weights,
            result,
            batch,
            height,
            width,
            channels,
            BINS=bins,
            SAMPLES=samples,
            SIDE=_side(samples, block),
            BLOCK=block,
            WIDE=tl.float64 if result.dtype == torch.float64 else tl.float32,
            INDEX=_index(height * width * bins**2 * channels),
            num_warps=WARPS,
        )


def _cut(
    rois: Tensor, height: int, width: int, bins: int, scale: float, samples: int
) -> Tuple[Tensor, Tensor]:
    """Where the bins lie, as ``bin_kernels`` writes it."""
    count = 2 * bins * len(rois)
    shape = (len(rois), 2, bins, 2 * max(samples, 1))
    cells = rois.new_empty(shape, dtype=torch.int32)
    grid = (triton.cdiv(count, LANES),)
    options = dict(BINS=bins, SCALE=scale, BLOCK=LANES, enable_fp_fusion=False)
    if not samples:
        bin_kernels.quantised[grid](rois, cells, count, height, width, **options)
        return cells, cells  # all cells weigh the same
    weights = rois.new_empty(shape)
    bin_kernels.sampled[grid](
        rois, cells, weights, count, height, width, SAMPLES=samples, **options
    )
    return cells, weights


def _index(length: int) -> tl.dtype:
    """For places in an image's map."""
    return tl.int32 if length < 2**31 else tl.int64


def _side(samples: int, block: int) -> int:
    """Of the tile of taps that a program reads at once."""
    side = 4 if block >= 32 else 8
    return min(side, triton.next_power_of_2(2 * samples)) if samples else side
