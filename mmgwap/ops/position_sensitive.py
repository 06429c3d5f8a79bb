"""What the position-sensitive RoI operators share: checks of their arguments.

A position-sensitive map holds ``P * P`` maps for each output channel, one for
each bin of a RoI: channel ``(c_out * P + row) * P + col`` is read by bin
``(row, col)`` alone.
"""
from typing import Tuple

import torch
from torch import Tensor


def check_arguments(input: Tensor, rois: Tensor, output_size: int) -> Tensor:
    """Refuse what cannot be pooled, naming the shape that is wrong.

    Args:
        input (Tensor): (B, C*P*P, H, W), or unflattened, (B, C, P*P, H, W).

    Returns:
        Tensor: (B, C, P*P, H, W), a view of ``input``.

    Raises:
        ValueError: if a shape or ``output_size`` is wrong, the bins' cells are
            2^31 or more, the devices differ, or a RoI names an image outside of the batch (checked
            on CPU only: on a GPU it would stall the queue).
    """
    if output_size < 1:
        raise ValueError(f'output_size must be at least 1, got {output_size}')
    bins = output_size**2
    if input.dim() != 5 and input.dim() != 4:
        raise ValueError('input must have shape (B, C*P*P, H, W) or '
                         f'(B, C, P*P, H, W), got {tuple(input.shape)}')
    if input.dim() == 5 and (input.size(1) == 0 or input.size(2) != bins):
        raise ValueError(
            f'input has {input.size(1)} channels of {input.size(2)} bins '
            f'(shape {tuple(input.shape)}), which must be output_size^2 = '
            f'{bins}')
    if input.size(1) == 0 or input.dim() == 4 and input.size(1) % bins:
        raise ValueError(
            f'input has {input.size(1)} channels (shape {tuple(input.shape)}),'
            f' which must be a multiple of output_size^2 = {bins}')
    if input.size(0) * bins * input.size(-2) * input.size(-1) >= 2**31:
        raise ValueError(
            f'input of shape {tuple(input.shape)} has too many cells for '
            '32-bit indices; pool fewer images at a time')
    if rois.dim() != 2 or rois.size(1) != 5:
        raise ValueError('rois must have shape (K, 5), rows of (batch index, '
                         f'x1, y1, x2, y2), got {tuple(rois.shape)}')
    if rois.device != input.device:
        raise ValueError(f'rois are on {rois.device}, and input is on '
                         f'{input.device}')
    if rois.device.type == 'cpu' and not torch.compiler.is_compiling():
        index = rois[:, 0]
        wrong = ~((index >= 0) & (index < input.size(0)))
        if wrong.any():
            raise ValueError(
                f'rois[{int(wrong.nonzero()[0])}] has batch index '
                f'{index[wrong][0]:g}, but input holds {input.size(0)} images')
    if input.dim() == 5:
        return input
    return input.unflatten(1, (input.size(1) // bins, bins))


def split_rois(rois: Tensor) -> Tuple[Tensor, Tensor]:
    """Split RoIs into batch index and box, in a dtype fit for coordinates.

    Half precision has too few digits for pixel coordinates, and a box that is
    not finite has no place on the map: it is moved outside, where every
    operator pools zero.

    Args:
        rois (Tensor): (K, 5).

    Returns:
        tuple[Tensor, Tensor]: batch indices (K,), int32, and boxes (K, 4),
        float32 or float64.
    """
    batch = rois[:, 0].int()
    boxes = rois[:, 1:]
    if boxes.dtype != torch.float64:
        boxes = boxes.float()
    finite = boxes.isfinite().all(dim=1, keepdim=True)
    return batch, torch.where(finite, boxes, boxes.new_full((), -1e6))
