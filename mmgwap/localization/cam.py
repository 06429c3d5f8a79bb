"""Class activation maps of linear classifiers, and gradient CAMs of any layer.

Shapes: B images, C channels, K classes, maps of H x W. The gradient CAMs take the
features of a layer (B, C, H, W) and the gradient of a score with respect to them, of
the same shape. They return (B, H, W), non-negative and not normalised.
"""

from torch import Tensor
from torch.nn.functional import conv2d


def class_activation_maps(features: Tensor, weight: Tensor) -> Tensor:
    """Apply the weights of a linear classifier at each position.

    Zhou et al., CVPR 2016, arXiv 1512.04150, equation 2:
    ``M_k(x, y) = sum_c w_kc f_c(x, y)``. After global average pooling, the score of
    a class without its bias is the mean of its map.

    Args:
        features (Tensor): (B, C, H, W), the input of the pooling.
        weight (Tensor): (K, C) or (K, C, 1, 1), the weight of the classifier.

    Returns:
        Tensor: (B, K, H, W), of any sign.

    Raises:
        ValueError: if the numbers of channels differ.

    Example:
        >>> import torch
        >>> class_activation_maps(torch.ones(1, 2, 3, 3), torch.tensor([[1.0, 2.0]])).unique()
        tensor([3.])
    """
    if features.dim() != 4 or features.shape[1] != weight.shape[1]:
        raise ValueError(
            'class_activation_maps: features (B, C, H, W) and weight (K, C) must have the same '
            f'C, got {tuple(features.shape)} and {tuple(weight.shape)}'
        )
    return conv2d(features, weight.view(*weight.shape[:2], 1, 1))


def grad_cam(features: Tensor, gradients: Tensor) -> Tensor:
    """Weight each channel by its mean gradient.

    Selvaraju et al., ICCV 2017, equations 1 and 2: ``relu(sum_c a_c f_c)``, where
    ``a_c`` is the mean gradient of channel c. For a linear classifier after global
    average pooling, this is the positive part of the class activation map divided by
    H W.
    """
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1).relu()


def grad_cam_plusplus(features: Tensor, gradients: Tensor) -> Tensor:
    """Weight each channel by its positive gradients, scaled per position.

    Chattopadhyay et al., WACV 2018, equations 9 and 19: ``relu(sum_c w_c f_c)``,
    ``w_c = sum_hw alpha * relu(g)``, ``alpha = g^2 / (2 g^2 + g^3 sum_hw f)``, where
    ``g^2`` cancels. As in equation 19, the score is the exponential of the
    differentiated value. Alpha is 0 where its denominator is 0.

    The grad-cam package adds 1e-6 to a denominator of the order of g^2, which damps
    gradients below 1e-3. This function adds nothing.
    """
    total = features.sum(dim=(2, 3), keepdim=True)
    denominator = 2 + gradients * total
    # Without the cancellation, alpha is 0 / 0 where the gradient is 0.
    alpha = (1 / denominator).masked_fill((gradients == 0) | (denominator == 0), 0)
    weights = (alpha * gradients.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1).relu()


def layer_cam(features: Tensor, gradients: Tensor) -> Tensor:
    """Weight each position of each channel by its own positive gradient.

    Jiang et al., IEEE TIP 2021, equations 4 and 5: ``relu(sum_c relu(g_c) * f_c)``.
    Early layers give maps of high resolution.
    """
    return (gradients.relu() * features).sum(dim=1).relu()


GRADIENT_CAMS = dict(grad_cam=grad_cam, grad_cam_plusplus=grad_cam_plusplus, layer_cam=layer_cam)
