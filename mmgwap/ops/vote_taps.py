"""The cells whose weighted sum a position-sensitive vote is."""

import torch
from torch import Tensor

from .position_sensitive import split_rois
from .ps_roi_pool import pool_taps
from .taps import Taps


def vote_taps(rois: Tensor, bins: int, scale: float, samples: int, height: int, width: int) -> Taps:
    """The cells whose weighted sum a vote is.

    Args:
        samples (int): along each side of a bin; 0 for quantised bins.
    """
    taps = (
        _align_taps(rois, bins, scale, samples, height, width)
        if samples
        else pool_taps(rois, bins, scale, height, width)
    )
    return taps._replace(weight=taps.weight / bins**2)


def _align_taps(
    rois: Tensor, bins: int, scale: float, samples: int, height: int, width: int
) -> Taps:
    """The cells that each bin interpolates, 4 * samples**2 of them.

    The samples of a bin form a grid and bilinear weights are products, so the
    weight of a cell is the product of its weights along each axis.
    """
    batch, boxes = split_rois(rois)
    boxes = boxes * scale - 0.5  # to cells, whose centres lie at integers
    x, x_weight = _axis_taps(boxes[:, 0], boxes[:, 2], bins, samples, width)
    y, y_weight = _axis_taps(boxes[:, 1], boxes[:, 3], bins, samples, height)
    # (row of bins, column of bins, RoI, tap in y, tap in x)
    line = (batch[:, None] * height + y)[:, None, :, :, None] * width
    cell = line + x[None, :, :, None, :]
    weight = y_weight[:, None, :, :, None] * x_weight[None, :, :, None, :]
    count = cell.new_full((bins**2, len(rois)), (2 * samples) ** 2, dtype=torch.int64)
    bag = torch.arange(count.numel(), device=cell.device, dtype=cell.dtype)
    bag = bag[:, None].expand(-1, (2 * samples) ** 2)
    return Taps(cell.flatten(), weight.flatten(), bag.flatten(), count)


def _axis_taps(low: Tensor, high: Tensor, bins: int, samples: int, length: int) -> tuple:
    """Cells and weights of each bin's samples along one axis.

    RoI align's border: a sample more than one cell outside counts as 0, a
    nearer one as the border's value.

    Returns:
        tuple[Tensor, Tensor]: (P, K, 2 * samples), int32 and float; the
        weights of a bin inside of the map sum to 1.
    """
    step = torch.arange(bins * samples, device=low.device, dtype=low.dtype)
    # By tensors: by a number, CUDA multiplies by the rounded reciprocal.
    step = ((step + 0.5) / step.new_full((), samples)).view(bins, 1, samples)
    size = (high - low).clamp(min=0) / low.new_full((), bins)
    place = low[:, None] + step * size[:, None]
    inside = (place >= -1) & (place <= length)
    place = place.clamp(0, length)
    below = place.floor().clamp(max=length - 1)
    share = place - below
    cell = torch.cat([below, (below + 1).clamp(max=length - 1)], dim=-1)
    weight = torch.cat([1 - share, share], dim=-1)
    return cell.int(), weight * inside.repeat(1, 1, 2) / samples
