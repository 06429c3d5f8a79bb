"""Where score maps lie on the image."""

from typing import Optional

import torch
from torch import Tensor
from torch.nn.functional import interpolate

# mmdet's names of the axes that an image was reversed along.
FLIPS = dict(horizontal=(-1,), vertical=(-2,), diagonal=(-2, -1))


def resize_maps(
    maps: Tensor,
    padded: tuple[int, int],
    valid: tuple[int, int],
    size: tuple[int, int],
    flip_direction: Optional[str] = None,
) -> Tensor:
    """Bring maps of the network's input to the original image.

    The input is the image, resized and padded on the right and at the bottom;
    the maps cover all of it.  Bilinear, with the centres of border cells half
    a cell inside, as in mmdet's resizing.

    Args:
        maps (Tensor): (K, h, w), float.
        padded (tuple[int, int]): height and width of the input
            (``batch_input_shape``).
        valid (tuple[int, int]): of the resized image in it (``img_shape``).
        size (tuple[int, int]): of the original image (``ori_shape``).
        flip_direction (str): 'horizontal', 'vertical' or 'diagonal' if the
            image was flipped so before it was padded; it is flipped back.

    Returns:
        Tensor: (K, *size).

    Raises:
        ValueError: if the resized image is larger than the input, or the
            direction is another.
    """
    if flip_direction not in (None, *FLIPS):
        raise ValueError(f'flip_direction must be one of {tuple(FLIPS)}, got {flip_direction!r}')
    if valid[0] > padded[0] or valid[1] > padded[1]:
        raise ValueError(f'an image of {valid} does not fit into {padded}')
    if not len(maps):  # which interpolate refuses
        return maps.new_zeros(0, *size)
    whole = interpolate(maps[None], padded, mode='bilinear', align_corners=False)
    resized = interpolate(
        whole[..., : valid[0], : valid[1]], size, mode='bilinear', align_corners=False
    )[0]
    # Rounding may lead out of the range, and a constant map would come to have
    # a pattern, which normalising would stretch.
    resized = torch.minimum(
        torch.maximum(resized, maps.amin((1, 2), True)), maps.amax((1, 2), True)
    )
    return resized if flip_direction is None else resized.flip(FLIPS[flip_direction])
