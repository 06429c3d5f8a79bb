"""Global weighted average pooling: Qiu, arXiv 1809.08264.

Shapes: B images, C channels, K classes, maps of H x W.

Neither weighting is written from the authors' code, which we do not know.  The
class-agnostic one follows public implementations that cite the paper and agree
with each other.  Of the class-specific one there is a single public
implementation, and what follows is our reading of it; its three parts, the
competition of the classes, the gate and the normalisation over space, are
functions of their own for that reason.
"""

from torch import Tensor


def class_agnostic_gwap(features: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
    """Average over space, weighted by one map for all channels.

    ``w = exp(sigmoid(attention))``, normalised to sum to 1 over space, so that
    no position weighs more than e times another.  Constant attention makes it
    the global average.

    Args:
        features (Tensor): (B, C, H, W).
        attention (Tensor): (B, 1, H, W), before the sigmoid.

    Returns:
        tuple[Tensor, Tensor]: pooled values (B, C), ``sum_hw w * features``,
        and the weights (B, 1, H, W).

    Raises:
        ValueError: if the shapes are not these.
    """
    if features.dim() != 4 or attention.shape != (features.shape[:1] + (1,) + features.shape[2:]):
        raise ValueError(
            'class_agnostic_gwap needs features (B, C, H, W) and '
            'attention (B, 1, H, W), got '
            f'{tuple(features.shape)} and '
            f'{tuple(attention.shape)}'
        )
    weights = spatial_softmax(attention.sigmoid())
    return weighted_sum(features, weights), weights


def class_specific_gwap(score_map: Tensor) -> tuple[Tensor, Tensor]:
    """Average of each class's scores, weighted by a map of its own.

    ``alpha = softmax over space of class_specific_attention(score_map)``.

    Args:
        score_map (Tensor): (B, K, H, W), one channel a class.

    Returns:
        tuple[Tensor, Tensor]: logits (B, K), ``sum_hw alpha * score_map``, and
        the weights alpha (B, K, H, W), which sum to 1 over space.

    Raises:
        ValueError: if ``score_map`` has not four dimensions.
    """
    weights = spatial_softmax(class_specific_attention(score_map))
    return weighted_sum(score_map, weights), weights


def class_specific_attention(score_map: Tensor) -> Tensor:
    """Where each class is: the localization maps of class-specific GWAP.

    ``M = softmax over classes(x) * sigmoid(x)``: the first factor says which
    of the classes, the second whether any.

    Args:
        score_map (Tensor): (B, K, H, W).

    Returns:
        Tensor: (B, K, H, W), in (0, 1), float32 or wider.
    """
    if score_map.dim() != 4:
        raise ValueError(f'a score map must be (B, K, H, W), got {tuple(score_map.shape)}')
    scores = _at_least_float32(score_map)
    return scores.softmax(dim=1) * scores.sigmoid()


def spatial_softmax(maps: Tensor) -> Tensor:
    """Softmax over the positions of each channel, (B, C, H, W).

    Computed in float32 or wider: over a large map each weight is small, and
    float16 would round many to nothing.
    """
    return _at_least_float32(maps).flatten(2).softmax(dim=2).view(maps.shape)


def weighted_sum(maps: Tensor, weights: Tensor) -> Tensor:
    """``sum_hw weights * maps``, (B, C) in the dtype of ``maps``.

    Args:
        maps (Tensor): (B, C, H, W).
        weights (Tensor): (B, C, H, W) or (B, 1, H, W).
    """
    return (maps * weights).flatten(2).sum(dim=2).to(maps.dtype)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype.itemsize < 4 else x
