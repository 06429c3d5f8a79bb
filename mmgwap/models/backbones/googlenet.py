"""GoogLeNet: Szegedy et al., CVPR 2015, arXiv 1409.4842, as in torchvision.

By default it is cut as in the CAM paper, arXiv 1512.04150, section 3.1.

torchvision's net and its ImageNet weights have batch norms and no biases. In each
block they have a 3x3 convolution where the paper has 5x5.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmgwap.registry import MODELS

# Channels in Table 1 of the paper: 1x1; (3x3 reduce, 3x3); (5x5 reduce, 5x5); pool
# projection.
STAGES = (
    dict(inception3a=(64, (96, 128), (16, 32), 32), inception3b=(128, (128, 192), (32, 96), 64)),
    dict(
        inception4a=(192, (96, 208), (16, 48), 64),
        inception4b=(160, (112, 224), (24, 64), 64),
        inception4c=(128, (128, 256), (24, 64), 64),
        inception4d=(112, (144, 288), (32, 64), 64),
        inception4e=(256, (160, 320), (32, 128), 128),
    ),
    dict(
        inception5a=(256, (160, 320), (32, 128), 128), inception5b=(384, (192, 384), (48, 128), 128)
    ),
)


@MODELS.register_module()
class GoogLeNet(BaseModule):
    """GoogLeNet up to inception4e or another stage.

    torchvision's ImageNet checkpoint loads, except ``aux1``, ``aux2``, ``fc`` and the
    blocks after the last output. It expects RGB images with mean and standard
    deviation 127.5 in each channel. torchvision's model converts the usual
    normalisation to this one (``transform_input``); this class does not.

    Args:
        out_indices (Sequence[int]): indices of the stages to return: 0
            (inception3b), 1 (inception4e), 2 (inception5b). Blocks after the last
            index are not built.
        frozen_stages (int): -1 freezes nothing, 0 the stem, n > 0 the stem and the
            first n stages.
        norm_cfg (dict): config of the norm layers.
        norm_eval (bool): whether batch norms use their running statistics in
            training.
        init_cfg (dict | list[dict]): default: He initialization.

    Raises:
        ValueError: if ``out_indices`` or ``frozen_stages`` is outside its range.
    """

    def __init__(
        self,
        out_indices: Sequence[int] = (1,),
        frozen_stages: int = -1,
        norm_cfg: dict = dict(type='BN', eps=0.001),
        norm_eval: bool = False,
        init_cfg: dict = None,
    ) -> None:
        super().__init__(
            init_cfg
            or [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        )
        if not set(out_indices) <= {0, 1, 2}:
            raise ValueError(f'GoogLeNet: out_indices must be in 0 to 2, got {out_indices}')
        stages = max(out_indices) + 1
        if not -1 <= frozen_stages <= stages:
            raise ValueError(
                f'GoogLeNet(out_indices={tuple(out_indices)}): frozen_stages must be in '
                f'[-1, {stages}], got {frozen_stages}'
            )
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.conv1 = _conv(3, 64, 7, norm_cfg, stride=2)
        self.conv2 = _conv(64, 64, 1, norm_cfg)
        self.conv3 = _conv(64, 192, 3, norm_cfg)
        self.maxpool1, self.maxpool2, self.maxpool3 = (
            nn.MaxPool2d(3, 2, ceil_mode=True) for _ in range(3)
        )
        self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
        channels = 192
        for blocks in STAGES[:stages]:
            for name, branches in blocks.items():
                block = Inception(channels, *branches, norm_cfg)
                self.add_module(name, block)
                channels = block.out_channels
        self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the features of the stages in ``out_indices``.

        Args:
            x (Tensor): (B, 3, H, W), H and W at least 15.

        Returns:
            tuple[Tensor]: maps (B, C, H / s, W / s) with C = 480, 832, 1024 and
            s = 8, 16, 32. The first convolution and the last pooling round up, the
            layers between them round down.
        """
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        outs = []
        for stage in range(max(self.out_indices) + 1):
            if stage:
                x = self.get_submodule(f'maxpool{stage + 2}')(x)
            for name in STAGES[stage]:
                x = self.get_submodule(name)(x)
            if stage in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def _freeze_stages(self) -> None:
        stages = [('conv1', 'conv2', 'conv3'), *STAGES]
        for names in stages[: self.frozen_stages + 1]:
            for name in names:
                self.get_submodule(name).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> 'GoogLeNet':
        """Set the mode; frozen stages and, with ``norm_eval``, batch norms stay in evaluation."""
        super().train(mode)
        self._freeze_stages()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


class Inception(nn.Module):
    """Concatenation of four branches: 1x1; 1x1, 3x3; 1x1, 3x3; max pooling, 1x1.

    The input is (B, ``channels``, H, W), the output (B, ``out_channels``, H, W). The
    third branch has a 5x5 convolution in the paper.
    """

    def __init__(
        self,
        channels: int,
        branch1: int,
        branch2: tuple[int, int],
        branch3: tuple[int, int],
        branch4: int,
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        self.branch1 = _conv(channels, branch1, 1, norm_cfg)
        self.branch2, self.branch3 = (
            nn.Sequential(
                _conv(channels, reduced, 1, norm_cfg), _conv(reduced, out_channels, 3, norm_cfg)
            )
            for reduced, out_channels in (branch2, branch3)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(channels, branch4, 1, norm_cfg))
        self.out_channels = branch1 + branch2[1] + branch3[1] + branch4

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1
        )


def _conv(
    channels: int, out_channels: int, size: int, norm_cfg: dict, stride: int = 1
) -> nn.Sequential:
    """Build a convolution with norm and ReLU, under torchvision's names.

    mmcv's ``ConvModule`` initialises itself and so overrides ``init_cfg``.
    """
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, out_channels, size, stride, size // 2, bias=False),
            bn=build_norm_layer(norm_cfg, out_channels)[1],
            relu=nn.ReLU(inplace=True),
        )
    )
