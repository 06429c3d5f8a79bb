"""Where score maps lie on the image."""
from typing import Tuple

from torch import Tensor
from torch.nn.functional import interpolate


def maps_on_image(maps: Tensor, padded: Tuple[int, int],
                  valid: Tuple[int, int],
                  size: Tuple[int, int]) -> Tensor:
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

    Returns:
        Tensor: (K, *size).

    Raises:
        ValueError: if the resized image is larger than the input.
    """
    if valid[0] > padded[0] or valid[1] > padded[1]:
        raise ValueError(f'an image of {valid} does not fit into {padded}')
    whole = interpolate(maps[None], padded, mode='bilinear',
                        align_corners=False)
    return interpolate(whole[..., :valid[0], :valid[1]], size,
                       mode='bilinear', align_corners=False)[0]
