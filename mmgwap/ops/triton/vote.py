"""``torch.ops.mmgwap.ps_roi_vote``: voting as a custom operator that runs Triton kernels.

The operators have fake (meta) implementations, and the vote has a gradient, so that autograd,
``torch.compile`` and ``torch.export`` see one node each.
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

# Maximum number of channels of a program, and its warps. Chosen by counting instructions, not by
# timing.
CHANNELS = 128
WARPS = 4
# Lanes of a program that cuts bins.
LANES = 128


@torch.library.custom_op('mmgwap::ps_roi_bins', mutates_args=())
def ps_roi_bins(
    rois: Tensor, height: int, width: int, bins: int, scale: float, samples: int
) -> Tuple[Tensor, Tensor]:
    """Cut RoIs into bins, once for all maps that they vote on.

    Args:
        rois (Tensor): (K, 5), float32 or float64, contiguous.
        height, width (int): size of the map, in cells.
        bins (int): P.
        scale (float): cells per pixel.
        samples (int): samples along each side of a bin; 0 for quantised bins.

    Returns:
        tuple[Tensor, Tensor]: cells and weights, as the kernels in ``bin_kernels`` write them; the
        weights are empty for quantised bins, whose cells have equal weights.
    """
    cells, weights = _empty_bins(rois, height, width, bins, scale, samples)
    count = 2 * bins * len(rois)
    if not count:
        return cells, weights
    grid = (triton.cdiv(count, LANES),)
    options = dict(BINS=bins, SCALE=scale, BLOCK=LANES, enable_fp_fusion=False)
    with torch.cuda.device_of(rois):
        if samples:
            bin_kernels.sampled[grid](
                rois, cells, weights, count, height, width, SAMPLES=samples, **options
            )
        else:
            bin_kernels.quantised[grid](rois, cells, count, height, width, **options)
    return cells, weights


@ps_roi_bins.register_fake
def _empty_bins(
    rois: Tensor, height: int, width: int, bins: int, scale: float, samples: int
) -> Tuple[Tensor, Tensor]:
    shape = (rois.size(0), 2, bins, 2 * max(samples, 1))
    cells = rois.new_empty(shape, dtype=torch.int32)
    return cells, rois.new_empty(shape if samples else 0)


@torch.library.custom_op('mmgwap::ps_roi_vote', mutates_args=())
def ps_roi_vote(
    maps: Tensor,
    rois: Tensor,
    cells: Tensor,
    weights: Tensor,
    bins: int,
    scale: float,
    samples: int,
) -> Tensor:
    """Vote as :func:`mmgwap.ops.ps_roi_vote` does.

    Args:
        maps (Tensor): (B, H, W, P*P, C), contiguous.
        rois (Tensor): (K, 5), float32 or float64, contiguous.
        cells, weights (Tensor): bins of the RoIs, from :func:`ps_roi_bins` with the same arguments.

    Returns:
        Tensor: (K, C), in the dtype of ``maps``; NaN for an RoI whose batch index is outside the
        batch.
    """
    votes = maps.new_empty((len(rois), bins, maps.size(-1)), dtype=accumulation_dtype(maps))
    if not len(maps):
        return votes[:, 0].fill_(torch.nan).to(maps.dtype)
    _launch(vote_kernels.forward, maps, rois, cells, weights, votes, maps.shape, bins, samples)
    return votes.sum(1).to(maps.dtype)


@ps_roi_vote.register_fake
def _(
    maps: Tensor,
    rois: Tensor,
    cells: Tensor,
    weights: Tensor,
    bins: int,
    scale: float,
    samples: int,
) -> Tensor:
    return maps.new_empty((rois.size(0), maps.size(-1)))


@torch.library.custom_op('mmgwap::ps_roi_vote_backward', mutates_args=())
def ps_roi_vote_backward(
    grad: Tensor,
    rois: Tensor,
    cells: Tensor,
    weights: Tensor,
    shape: List[int],
    bins: int,
    scale: float,
    samples: int,
) -> Tensor:
    """Compute the gradient of maps of the given shape.

    With ``torch.use_deterministic_algorithms`` each cell adds up its RoIs in a fixed order, for
    which the list of all cells has to be sorted.
    """
    if torch.are_deterministic_algorithms_enabled():
        return _backward_in_fixed_order(grad, rois, shape, bins, scale, samples)
    grad = grad.contiguous()
    result = grad.new_zeros(shape, dtype=accumulation_dtype(grad))
    _launch(vote_kernels.backward, grad, rois, cells, weights, result, shape, bins, samples)
    return result.to(grad.dtype)


@ps_roi_vote_backward.register_fake
def _(
    grad: Tensor,
    rois: Tensor,
    cells: Tensor,
    weights: Tensor,
    shape: List[int],
    bins: int,
    scale: float,
    samples: int,
) -> Tensor:
    return grad.new_empty(shape)


def _backward_in_fixed_order(
    grad: Tensor, rois: Tensor, shape: List[int], bins: int, scale: float, samples: int
) -> Tensor:
    batch, height, width, *_, channels = shape
    # An RoI whose batch index is outside the batch gets a box outside the map.
    valid = (rois[:, :1] >= 0) & (rois[:, :1] < batch)
    rois = torch.where(valid, rois, rois.new_tensor([0] + 4 * [torch.inf]))
    cells = (
        align_cells(rois, bins, scale, samples, height, width)
        if samples
        else pool_cells(rois, bins, scale, height, width)
    )
    shape = torch.Size((batch, channels, bins**2, height, width))
    result = scatter_cells(grad, cells, shape, average_bins=True, cell_major=True)
    return result.permute(CELL_MAJOR)


def _save(ctx, inputs: tuple, output: Tensor) -> None:
    maps, *tensors, ctx.bins, ctx.scale, ctx.samples = inputs
    ctx.shape = list(maps.shape)
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad: Tensor) -> tuple:
    grad_maps = ps_roi_vote_backward(
        grad, *ctx.saved_tensors, ctx.shape, ctx.bins, ctx.scale, ctx.samples
    )
    return grad_maps, None, None, None, None, None, None


ps_roi_vote.register_autograd(_backward, setup_context=_save)


def _launch(
    kernel,
    source: Tensor,
    rois: Tensor,
    cells: Tensor,
    weights: Tensor,
    result: Tensor,
    shape: List[int],
    bins: int,
    samples: int,
) -> None:
    """Start a program for each RoI, row of bins and block of channels."""
    batch, height, width, *_, channels = shape
    if not (len(rois) and batch * height * width * channels):
        result.zero_()
        return
    block = min(CHANNELS, triton.next_power_of_2(channels))
    with torch.cuda.device_of(source):
        kernel[(len(rois), bins, triton.cdiv(channels, block))](
            source,
            rois,
            cells,
            weights if samples else cells,  # the kernel reads no weights of quantised bins
            result,
            batch,
            height,
            width,
            channels,
            BINS=bins,
            SAMPLES=samples,
            SIDE=_tile_side(samples, block),
            BLOCK=block,
            ACC=tl.float64 if result.dtype == torch.float64 else tl.float32,
            INDEX=_index_dtype(height * width * bins**2 * channels),
            num_warps=WARPS,
        )


def _index_dtype(image_size: int) -> tl.dtype:
    """Return the dtype of indices into the map of one image."""
    return tl.int32 if image_size < 2**31 else tl.int64


def _tile_side(samples: int, block: int) -> int:
    """Return the side of the tile of cells that a program reads at once."""
    side = 4 if block >= 32 else 8
    return min(side, triton.next_power_of_2(2 * samples)) if samples else side
