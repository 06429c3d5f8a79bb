"""What the position-sensitive RoI operators share: checks of their arguments.

A position-sensitive map holds ``P * P`` maps for each output channel, one for
each bin of a RoI: channel ``(c_out * P + row) * P + col`` is read by bin
``(row, col)`` alone.
"""

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
            2^31 or more, the devices differ, or a RoI names an image outside
            of the batch (checked on CPU only: on a GPU it would stall the
            queue).
    """
    if output_size < 1:
        raise ValueError(f'output_size must be at least 1, got {output_size}')
    maps = _unflattened(input, output_size**2)
    _check_rois(rois, maps)
    return maps


def _unflattened(input: Tensor, bins: int) -> Tensor:
    shape = tuple(input.shape)
    if input.dim() not in (4, 5):
        raise ValueError(
            f'input must have shape (B, C*P*P, H, W) or (B, C, P*P, H, W), got {shape}'
        )
    channels = input.shape[1:-2].numel()
    if channels == 0 or channels % bins or input.dim() == 5 and input.size(2) != bins:
        raise ValueError(
            f'input has {" x ".join(map(str, shape[1:-2]))} channels (shape '
            f'{shape}), which must be a multiple of output_size^2 = {bins}'
            + ', and the bins on their own axis'
            * (input.dim() == 5)
        )
    if shape[0] * bins * shape[-2] * shape[-1] >= 2**31:
        raise ValueError(
            f'input of shape {shape} has too many cells for '
            '32-bit indices; pool fewer images at a time'
        )
    return input if input.dim() == 5 else input.unflatten(1, (-1, bins))


def _check_rois(rois: Tensor, maps: Tensor) -> None:
    if rois.dim() != 2 or rois.size(1) != 5:
        raise ValueError(
            'rois must have shape (K, 5), rows of (batch index, '
            f'x1, y1, x2, y2), got {tuple(rois.shape)}'
        )
    if rois.device != maps.device:
        raise ValueError(f'rois are on {rois.device}, and input is on {maps.device}')
    if rois.device.type != 'cpu' or torch.compiler.is_compiling():
        return
    index = rois[:, 0]
    wrong = ~((index >= 0) & (index < maps.size(0)))
    if wrong.any():
        raise ValueError(
            f'rois[{int(wrong.nonzero()[0])}] has batch index '
            f'{index[wrong][0]:g}, but input holds {maps.size(0)} images'
        )


def split_rois(rois: Tensor) -> tuple[Tensor, Tensor]:
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
