"""Global weighted average pooling: Qiu, arXiv 1809.08264.

Shapes: B images, C channels, K classes, maps of H x W.

Neither weighting follows the authors' code, which we do not know. The class-agnostic weighting
follows public implementations that cite the paper and agree with each other. For the
class-specific weighting there is a single public implementation, and this module is our reading of
it. Its three parts, the competition of the classes, the gate and the normalisation over space, are
therefore easy to replace.
"""

from torch import Tensor


def class_agnostic_gwap(features: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
    """Average features over space, weighted by one map for all channels.

    The weights are ``w = exp(sigmoid(attention))``, normalised to sum to 1 over space, so that no
    position weighs more than e times another. With constant attention the result is the global
    average.

    Args:
        features (Tensor): (B, C, H, W).
        attention (Tensor): (B, 1, H, W), before the sigmoid.

    Returns:
        tuple[Tensor, Tensor]: pooled values ``sum_hw w * features``, (B, C), and the weights,
        (B, 1, H, W).

    Raises:
        ValueError: if a shape does not fit.

    Example:
        >>> import torch
        >>> features = torch.tensor([[[[1.0, 3.0]]]])
        >>> class_agnostic_gwap(features, torch.zeros(1, 1, 1, 2))
        (tensor([[2.]]), tensor([[[[0.5000, 0.5000]]]]))
    """
    if features.dim() != 4 or attention.shape != (features.shape[:1] + (1,) + features.shape[2:]):
        raise ValueError(
            'class_agnostic_gwap needs features (B, C, H, W) and attention (B, 1, H, W), '
            f'got {tuple(features.shape)} and {tuple(attention.shape)}'
        )
    weights = spatial_softmax(attention.sigmoid())
    return weighted_sum(features, weights), weights


def class_specific_gwap(score_map: Tensor) -> tuple[Tensor, Tensor]:
    """Average the scores of each class over space, weighted by a map for each class.

    The weights alpha are the softmax over space of ``class_specific_attention(score_map)``.

    Args:
        score_map (Tensor): (B, K, H, W), one channel for each class.

    Returns:
        tuple[Tensor, Tensor]: logits ``sum_hw alpha * score_map``, (B, K), and the weights alpha,
        (B, K, H, W), which sum to 1 over space.

    Raises:
        ValueError: if ``score_map`` does not have four dimensions.

    Example:
        >>> import torch
        >>> logits, weights = class_specific_gwap(torch.tensor([[[[0.0, 9.0]], [[0.0, 0.0]]]]))
        >>> logits[0, 0] > 4.5  # the plain average
        tensor(True)
        >>> weights.shape
        torch.Size([1, 2, 1, 2])
    """
    weights = spatial_softmax(class_specific_attention(score_map))
    return weighted_sum(score_map, weights), weights


def class_specific_attention(score_map: Tensor) -> Tensor:
    """Compute the localization maps of class-specific GWAP.

    ``M = softmax over classes(x) * sigmoid(x)``: in the first factor the classes compete, and the
    second is low where no class scores high.

    Args:
        score_map (Tensor): (B, K, H, W).

    Returns:
        Tensor: (B, K, H, W), in (0, 1), float32 or wider.

    Example:
        >>> import torch
        >>> class_specific_attention(torch.zeros(1, 2, 1, 1)).flatten()
        tensor([0.2500, 0.2500])
    """
    if score_map.dim() != 4:
        raise ValueError(f'score_map must have shape (B, K, H, W), got {tuple(score_map.shape)}')
    scores = _at_least_float32(score_map)
    return scores.softmax(dim=1) * scores.sigmoid()


def spatial_softmax(maps: Tensor) -> Tensor:
    """Compute the softmax over the positions of each channel, (B, C, H, W).

    The result is float32 or wider: over a large map the weights are small, and float16 would round
    many of them to 0.
    """
    return _at_least_float32(maps).flatten(2).softmax(dim=2).view(maps.shape)


def weighted_sum(maps: Tensor, weights: Tensor) -> Tensor:
    """Compute ``sum_hw weights * maps``, (B, C), in the dtype of ``maps``.

    Args:
        maps (Tensor): (B, C, H, W).
        weights (Tensor): (B, C, H, W) or (B, 1, H, W).
    """
    return (maps * weights).flatten(2).sum(dim=2).to(maps.dtype)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype.itemsize < 4 else x
