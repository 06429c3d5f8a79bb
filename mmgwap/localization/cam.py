"""Class activation maps: Zhou et al., CVPR 2016, arXiv 1512.04150."""

from torch import Tensor
from torch.nn.functional import conv2d


def class_activation_maps(features: Tensor, weight: Tensor) -> Tensor:
    """A linear classifier's weights, applied at each position (equation 2).

    ``M_k(x, y) = sum_c w_kc f_c(x, y)``.  Behind global average pooling the
    score of a class, less its bias, is the mean of its map.

    Args:
        features (Tensor): (B, C, H, W), what is pooled.
        weight (Tensor): (K, C), or (K, C, 1, 1), of the classifier.

    Returns:
        Tensor: (B, K, H, W), of any sign.

    Raises:
        ValueError: if the channels are not those of the classifier.
    """
    if features.dim() != 4 or features.shape[1] != weight.shape[1]:
        raise ValueError(
            'class_activation_maps needs features (B, C, H, W) '
            'and weights (K, C), got '
            f'{tuple(features.shape)} and {tuple(weight.shape)}'
        )
    return conv2d(features, weight.view(*weight.shape[:2], 1, 1))
