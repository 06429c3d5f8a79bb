"""Global poolings of a feature or score map for image-level classification.

Shapes: B images, C channels, K classes, maps of H x W.
"""

import math

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmgwap.ops import class_agnostic_gwap, class_specific_attention, class_specific_gwap
from mmgwap.registry import MODELS


class GlobalPool(BaseModule):
    """Base class of the global poolings.

    ``forward`` pools maps (B, C, H, W) to values (B, C).

    Args:
        in_channels (int): channels of the maps. Most poolings ignore it.

    Attributes:
        on_scores (bool): whether the input is the score map of the classes.
            Otherwise it is the features, and the classifier follows the pooling.
    """

    on_scores = False

    def __init__(self, in_channels: int = None, init_cfg: dict = None) -> None:
        super().__init__(init_cfg)

    def localize(self, maps: Tensor, score_map: Tensor) -> Tensor:
        """Return the localization maps of the classes (B, K, H, W).

        By default the class activation maps (Zhou et al., CVPR 2016, equation 2),
        which are ``score_map``.

        Args:
            maps (Tensor): the input of :meth:`forward`.
            score_map (Tensor): (B, K, H, W), the classifier without its bias,
                applied at each position.
        """
        return score_map


@MODELS.register_module()
class GlobalAvgPool(GlobalPool):
    """Mean over all positions (GAP): Lin et al., Network In Network, ICLR 2014.

    Example:
        >>> import torch
        >>> GlobalAvgPool()(torch.arange(4.0).view(1, 1, 2, 2))
        tensor([[1.5000]])
    """

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))


@MODELS.register_module()
class GlobalMaxPool(GlobalPool):
    """Maximum over all positions (GMP): Oquab et al., CVPR 2015."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.flatten(2).max(dim=2).values


@MODELS.register_module()
class LogSumExpPool(GlobalPool):
    """Smooth maximum: Pinheiro and Collobert, CVPR 2015, equation 4.

    ``log(mean_hw exp(r * x)) / r``, which approaches the mean for small r and the
    maximum for large r.

    Args:
        r (float): sharpness, in [1e-6, 1e6].
    """

    def __init__(self, r: float = 5.0, **kwargs) -> None:
        super().__init__(**kwargs)
        # A smaller r leaves nothing but the rounding error of the logarithm.
        if not 1e-6 <= r <= 1e6:
            raise ValueError(f'LogSumExpPool: r must be in [1e-6, 1e6], got {r}')
        self.r = r

    def forward(self, maps: Tensor) -> Tensor:
        scaled = self.r * (maps.float() if maps.dtype.itemsize < 4 else maps)
        sums = scaled.flatten(2).logsumexp(dim=2)
        return ((sums - math.log(math.prod(maps.shape[2:]))) / self.r).to(maps.dtype)


@MODELS.register_module()
class ClassAgnosticGWAP(GlobalPool):
    """GWAP with one learned attention map for all channels: arXiv 1809.08264.

    See :func:`mmgwap.ops.class_agnostic_gwap`. The attention is a 1x1 convolution.
    It is initialised with zero, so the pooling starts as the mean.
    """

    def __init__(self, in_channels: int, init_cfg: dict = None) -> None:
        super().__init__(init_cfg=init_cfg or dict(type='Constant', layer='Conv2d', val=0))
        self.attention = nn.Conv2d(in_channels, 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return class_agnostic_gwap(maps, self.attention(maps))[0]

    def foreground(self, maps: Tensor) -> Tensor:
        """Return the foreground map (B, 1, H, W), in (0, 1)."""
        return self.attention(maps).sigmoid()

    def localize(self, maps: Tensor, score_map: Tensor) -> Tensor:
        """Return the class activation maps multiplied by the foreground map."""
        return score_map * self.foreground(maps)


@MODELS.register_module()
class ClassSpecificGWAP(GlobalPool):
    """GWAP with a weight map for each class: our reading of arXiv 1809.08264.

    See :func:`mmgwap.ops.class_specific_gwap`.
    """

    on_scores = True

    def forward(self, maps: Tensor) -> Tensor:
        return class_specific_gwap(maps)[0]

    def localize(self, maps: Tensor, score_map: Tensor) -> Tensor:
        """Return ``softmax over classes * sigmoid`` of the scores, in (0, 1)."""
        return class_specific_attention(maps)
