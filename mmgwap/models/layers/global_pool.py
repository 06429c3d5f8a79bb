"""Poolings of a whole map to one value, for image-level classification.

Shapes: B images, C channels, maps of H x W.  Each module returns the pooled
values (B, C) and the map that it weighs by, which sums to 1 over space:
(B, C, H, W), or (B, 1, H, W) where all channels share it.
"""

import math

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmgwap.argument_checks import check_number, check_whole
from mmgwap.ops import class_agnostic_gwap, class_specific_attention, class_specific_gwap
from mmgwap.ops.gwap import spatial_softmax
from mmgwap.registry import MODELS


class GlobalPool(BaseModule):
    """Base of the poolings.

    Args:
        in_channels (int): channels of the maps that it will be given.  Most
            poolings have no use for it.

    Attributes:
        on_scores (bool): whether it pools the score maps of the classes.  Else
            it pools features, and the classifier comes behind it.
    """

    on_scores = False

    def __init__(self, in_channels: int = None, init_cfg: dict = None) -> None:
        super().__init__(init_cfg)
        if in_channels is not None:
            check_whole(in_channels, f'{type(self).__name__}: in_channels')

    def localize(self, maps: Tensor, score_map: Tensor) -> Tensor:
        """Localization maps of the classes (B, K, H, W).

        Here the class activation maps (Zhou et al., CVPR 2016, equation 2),
        which are the score map without its bias.

        Args:
            maps (Tensor): what :meth:`forward` takes.
            score_map (Tensor): (B, K, H, W), the classifier at each position,
                without bias.
        """
        return score_map


@MODELS.register_module()
class GlobalAvgPool(GlobalPool):
    """The mean: Lin et al., Network In Network, ICLR 2014; CAM's GAP."""

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        weights = torch.full_like(maps[:, :1], 1 / math.prod(maps.shape[2:]))
        return maps.mean(dim=(2, 3)), weights


@MODELS.register_module()
class GlobalMaxPool(GlobalPool):
    """The maximum: Oquab et al., CVPR 2015; GMP in the CAM paper.

    Of several positions with the same value the first takes all the weight.
    """

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        values, places = maps.flatten(2).max(dim=2)
        weights = torch.zeros_like(maps).flatten(2)
        weights.scatter_(2, places[..., None], 1)
        return values, weights.view(maps.shape)


@MODELS.register_module()
class LogSumExpPool(GlobalPool):
    """Between mean and maximum: Pinheiro and Collobert, CVPR 2015, equation 4.

    ``log(mean_hw exp(r * x)) / r``: the mean for small r, the maximum for
    large.  The map is its derivative by x, the softmax of ``r * x``.

    Args:
        r (float): sharpness, 1e-6 to 1e6.
    """

    def __init__(self, r: float = 5.0, **kwargs) -> None:
        super().__init__(**kwargs)
        # Below, nothing but the error of the logarithm would be left.
        check_number(r, 'LogSumExpPool: r', 1e-6, 10**6)
        self.r = r

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        sharp = maps.float() if maps.dtype.itemsize < 4 else maps
        sharp = self.r * sharp
        values = sharp.flatten(2).logsumexp(dim=2) - math.log(math.prod(maps.shape[2:]))
        return (values / self.r).to(maps.dtype), spatial_softmax(sharp)


@MODELS.register_module()
class ClassAgnosticGWAP(GlobalPool):
    """GWAP with one learned attention map: arXiv 1809.08264.

    See :func:`mmgwap.ops.class_agnostic_gwap`.  The attention is a 1x1
    convolution that starts at zero, where the pooling is the mean.
    """

    def __init__(self, in_channels: int, init_cfg: dict = None) -> None:
        check_whole(in_channels, 'ClassAgnosticGWAP: in_channels')
        super().__init__(init_cfg=init_cfg or dict(type='Constant', layer='Conv2d', val=0))
        self.attention = nn.Conv2d(in_channels, 1, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        return class_agnostic_gwap(maps, self.attention(maps))

    def foreground(self, maps: Tensor) -> Tensor:
        """Where anything is, (B, 1, H, W), in (0, 1)."""
        return self.attention(maps).sigmoid()

    def localize(self, maps: Tensor, score_map: Tensor) -> Tensor:
        """Class activation maps, weighed by the foreground."""
        return score_map * self.foreground(maps)


@MODELS.register_module()
class ClassSpecificGWAP(GlobalPool):
    """GWAP with a map for each class: arXiv 1809.08264, in our reading.

    See :func:`mmgwap.ops.class_specific_gwap`.
    """

    on_scores = True

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        return class_specific_gwap(maps)

    def localize(self, maps: Tensor, score_map: Tensor) -> Tensor:
        """``softmax over classes * sigmoid`` of the scores, in (0, 1)."""
        return class_specific_attention(maps)
