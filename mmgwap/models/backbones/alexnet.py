"""AlexNet without its last pooling, for class activation maps.

Cut as in the CAM paper: Zhou et al., CVPR 2016, arXiv 1512.04150, section 3.1. The
net is that of Krizhevsky, arXiv 1404.5997, as in torchvision.
"""

from mmcv.cnn import AlexNet as Plain
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmgwap.registry import MODELS


@MODELS.register_module()
class AlexNet(Plain, BaseModule):
    """AlexNet up to the ReLU of conv5.

    torchvision's ImageNet checkpoint loads, except its ``classifier``. It expects
    RGB images with mean (123.675, 116.28, 103.53) and standard deviation (58.395,
    57.12, 57.375).

    The poolings have no padding, so the map has one row and one column less than the
    stride of 16 suggests: 13 for 224 px.  :func:`mmgwap.localization.resize_maps`
    stretches it over the whole input. This shifts a cell by up to 8 px if the sides
    of the input are multiples of 32, as in the configs, and by up to 22 px otherwise.

    Args:
        frozen_stages (int): number of convolutions to freeze, 0 to 5; -1 freezes
            none, as 0 does.
        init_cfg (dict | list[dict]): default: He initialization.

    Raises:
        ValueError: if ``frozen_stages`` is outside [-1, 5].
    """

    def __init__(self, frozen_stages: int = -1, init_cfg: dict = None) -> None:
        super().__init__()
        if not -1 <= frozen_stages <= 5:
            raise ValueError(f'AlexNet: frozen_stages must be in [-1, 5], got {frozen_stages}')
        # fan_in keeps the scale of the features, since there are no norm layers.
        self.init_cfg = init_cfg or dict(type='Kaiming', layer='Conv2d', mode='fan_in')
        self.frozen_stages = frozen_stages
        # mmdet's NumClassCheckHook would compare mmcv's -1 with the number of classes
        # of the data set.
        del self.num_classes
        self.features = self.features[:-1]
        convs = [layer for layer in self.features if isinstance(layer, nn.Conv2d)]
        for conv in convs[: max(frozen_stages, 0)]:
            conv.requires_grad_(False)

    def init_weights(self) -> None:
        """Initialise by ``init_cfg``, which mmcv's method ignores."""
        BaseModule.init_weights(self)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Return the features of conv5.

        Args:
            x (Tensor): (B, 3, H, W), H and W at least 31.

        Returns:
            tuple[Tensor]: one map (B, 256, H', W'), non-negative. A side that is a
            multiple of 32 has ``side / 16 - 1`` cells.
        """
        return (self.features(x),)
