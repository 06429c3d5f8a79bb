"""AlexNet as the CAM paper cuts it: Zhou et al., CVPR 2016, arXiv 1512.04150,
section 3.1, in the form of Krizhevsky, arXiv 1404.5997, which torchvision has.
"""

from mmcv.cnn import AlexNet as Plain
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmgwap.argument_checks import check_whole
from mmgwap.registry import MODELS


@MODELS.register_module()
class AlexNet(Plain, BaseModule):
    """AlexNet up to conv5 and its ReLU; pool5 and what follows are left out.

    torchvision's ImageNet checkpoint fits (its ``classifier`` is left over).
    It expects RGB with mean (123.675, 116.28, 103.53) and deviation (58.395,
    57.12, 57.375).

    Its poolings have no padding, so there is a row and a column less than
    stride 16 says, 13 for 224 px.  Maps are laid out over the whole input all
    the same: a cell looks up to 8 px beside its place if the input is padded to
    a multiple of 32, as the configs have it, and else up to 22 px.

    Args:
        frozen_stages (int): -1 or 0 freezes nothing, n > 0 the first n
            convolutions, of 5.
        init_cfg (dict | list[dict]): default: He's initialization.

    Raises:
        ValueError: if ``frozen_stages`` is outside of -1 to 5.
    """

    def __init__(self, frozen_stages: int = -1, init_cfg: dict = None) -> None:
        super().__init__()
        check_whole(frozen_stages, 'frozen_stages of AlexNet', -1, 5)
        # There are no norms, so it is the forward signal that is kept.
        self.init_cfg = init_cfg or dict(type='Kaiming', layer='Conv2d', mode='fan_in')
        self.frozen_stages = frozen_stages
        # mmdet's NumClassCheckHook would compare mmcv's -1 with the data set's.
        del self.num_classes
        self.features = self.features[:-1]
        convs = [layer for layer in self.features if isinstance(layer, nn.Conv2d)]
        for conv in convs[: max(frozen_stages, 0)]:
            conv.requires_grad_(False)

    def init_weights(self) -> None:
        """By ``init_cfg``; mmcv's own method knows of none."""
        BaseModule.init_weights(self)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Features of conv5.

        Args:
            x (Tensor): (B, 3, H, W), H and W at least 31.

        Returns:
            tuple[Tensor]: one, (B, 256, H', W'), not negative; a side of
            multiples of 32 has ``side / 16 - 1`` cells.
        """
        return (self.features(x),)
