"""GoogLeNet: Szegedy et al., CVPR 2015, arXiv 1409.4842, in torchvision's form,
cut where the CAM paper (arXiv 1512.04150, section 3.1) cuts it.

That form has batch norms, no biases, and in each block a 3x3 convolution where
the paper has 5x5; its ImageNet weights were trained so.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmgwap.argument_checks import check_flag, check_indices, check_norm, check_whole
from mmgwap.registry import MODELS

# Table 1 of the paper: 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; projection of
# the pooling.
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
    """GoogLeNet up to inception4e, or another stage.

    torchvision's ImageNet checkpoint fits; ``aux1``, ``aux2``, ``fc`` and the
    blocks behind the last output are left over.  It expects RGB with mean and
    deviation 127.5 in each channel: torchvision's model brings the usual
    normalisation to this one itself (``transform_input``), this one does not.

    Args:
        out_indices (Sequence[int]): which stages to return, of 0 (inception3b),
            1 (inception4e) and 2 (inception5b).  Blocks behind the last of
            them are not built.
        frozen_stages (int): -1 freezes nothing, 0 the stem, and n > 0 the
            first n stages too.
        norm_cfg (dict): of the batch norms.
        norm_eval (bool): whether batch norms keep their running statistics in
            training.
        init_cfg (dict | list[dict]): default: He's initialization.

    Raises:
        ValueError: if ``out_indices`` or ``frozen_stages`` is not one of these.
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
        _check(out_indices, frozen_stages)
        check_flag(norm_eval, 'GoogLeNet: norm_eval')
        check_norm(norm_cfg, 'GoogLeNet: norm_cfg')
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
        for blocks in STAGES[: max(out_indices) + 1]:
            for name, widths in blocks.items():
                block = Inception(channels, *widths, norm_cfg)
                self.add_module(name, block)
                channels = block.out_channels
        self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of the stages in ``out_indices``.

        Args:
            x (Tensor): (B, 3, H, W), H and W at least 15.

        Returns:
            tuple[Tensor]: (B, C, H / s, W / s) with C = 480, 832, 1024 and
            s = 8, 16, 32; halves are rounded up in the first convolution and
            in the last pooling, and down between.
        """
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        outs = []
        for place in range(max(self.out_indices) + 1):
            if place:
                x = self.get_submodule(f'maxpool{place + 2}')(x)
            for name in STAGES[place]:
                x = self.get_submodule(name)(x)
            if place in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def _freeze_stages(self) -> None:
        stages = [('conv1', 'conv2', 'conv3'), *STAGES]
        for names in stages[: self.frozen_stages + 1]:
            for name in names:
                self.get_submodule(name).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> 'GoogLeNet':
        """Frozen stages stay in evaluation mode, and with ``norm_eval`` all
        batch norms."""
        super().train(mode)
        self._freeze_stages()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


class Inception(nn.Module):
    """Four branches side by side, from the same map.

    1x1; 1x1 and 3x3; the same again, where the paper has 5x5; maximum pooling
    and 1x1.  (B, channels, H, W) to (B, ``out_channels``, H, W).
    """

    def __init__(
        self,
        channels: int,
        single: int,
        double: tuple[int, int],
        wide: tuple[int, int],
        pooled: int,
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        self.branch1 = _conv(channels, single, 1, norm_cfg)
        self.branch2, self.branch3 = (
            nn.Sequential(
                _conv(channels, reduced, 1, norm_cfg), _conv(reduced, out_channels, 3, norm_cfg)
            )
            for reduced, out_channels in (double, wide)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(channels, pooled, 1, norm_cfg))
        self.out_channels = single + double[1] + wide[1] + pooled

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1
        )


def _conv(
    channels: int, out_channels: int, size: int, norm_cfg: dict, stride: int = 1
) -> nn.Sequential:
    """Convolution, norm and ReLU, with torchvision's names.

    mmcv's ``ConvModule`` has them too, but initializes itself, and so would
    override ``init_cfg``.
    """
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, out_channels, size, stride, size // 2, bias=False),
            bn=build_norm_layer(norm_cfg, out_channels)[1],
            relu=nn.ReLU(inplace=True),
        )
    )


def _check(out_indices: Sequence[int], frozen_stages: int) -> None:
    check_indices(out_indices, 'out_indices of GoogLeNet', 3)
    check_whole(
        frozen_stages,
        f'frozen_stages of GoogLeNet(out_indices={tuple(out_indices)})',
        -1,
        max(out_indices) + 1,
    )
