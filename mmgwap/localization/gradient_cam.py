"""Maps from the gradient of a score by the features of any layer.

Shapes: B images, C channels, maps of H x W.  Each function takes the features
(B, C, H, W) and the gradient of the score by them, of the same shape, and
returns (B, H, W), not negative.  They do not normalise.
"""

from torch import Tensor


def grad_cam(features: Tensor, gradients: Tensor) -> Tensor:
    """Selvaraju et al., ICCV 2017, equations 1 and 2.

    ``relu(sum_c a_c f_c)``, ``a_c`` the mean of channel c's gradient.  For a
    linear classifier behind global average pooling it is the positive part of
    the class activation map, divided by H W.
    """
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1).relu()


def grad_cam_plusplus(features: Tensor, gradients: Tensor) -> Tensor:
    """Chattopadhyay et al., WACV 2018, equations 9 and 19.

    ``relu(sum_c w_c f_c)``, ``w_c = sum_hw alpha * relu(g)``,
    ``alpha = g^2 / (2 g^2 + g^3 sum_hw f)``, of which one ``g^2`` cancels.  As
    in their equation 19 the score is the exponential of what was derived.
    Where the denominator is zero, alpha is taken for zero.
    The grad-cam package adds 1e-6 to a denominator of the order of g^2, which
    damps gradients below 1e-3; here nothing is added.
    """
    total = features.sum(dim=(2, 3), keepdim=True)
    below = 2 + gradients * total
    # A gradient of zero has no weight in either form.
    alpha = (1 / below).masked_fill((gradients == 0) | (below == 0), 0)
    weights = (alpha * gradients.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1).relu()


def layer_cam(features: Tensor, gradients: Tensor) -> Tensor:
    """Jiang et al., IEEE TIP 2021, equations 4 and 5.

    ``relu(sum_c relu(g_c) * f_c)``: each position has the weight of its own
    gradient, so that early layers give fine maps.
    """
    return (gradients.relu() * features).sum(dim=1).relu()


GRADIENT_CAMS = dict(grad_cam=grad_cam, grad_cam_plusplus=grad_cam_plusplus, layer_cam=layer_cam)
