"""The blocks of LIP-ResNet that downsample."""

from collections import OrderedDict

import torch.utils.checkpoint as cp
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmengine.model import BaseModule, Sequential
from torch import Tensor, nn

from mmgwap.models.layers.lip import BottleneckLIP, BottleneckLogit, SharedBottleneckLIP


class LIPBottleneck(Bottleneck):
    """LIP and a 1x1 convolution in place of the strided 3x3 one.

    Logits of the LIPs in the block and in its shortcut come from the block's
    input, by one bottleneck of convolutions and a 1x1 convolution each: arXiv
    1908.04156, section 4.2.

    Args:
        inplanes (int): channels of the input.
        planes (int): channels within; the output has four times as many.
        stride (int): of both LIPs.
        **kwargs: as in mmdet's ``Bottleneck``.  There is no 3x3 convolution
            that ``dilation`` or ``dcn`` could change.
    """

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 2,
        dilation: int = 1,
        dcn: dict = None,
        **kwargs,
    ) -> None:
        super().__init__(inplanes, planes, **kwargs)
        self.bottleneck_shared = BottleneckLogit(inplanes)
        self.conv2 = Sequential(
            SharedBottleneckLIP(planes, stride=stride),
            build_conv_layer(self.conv_cfg, planes, planes, 1, bias=False),
        )
        self.downsample = LIPShortcut(
            inplanes, planes * self.expansion, stride, self.conv_cfg, self.norm_cfg
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inplanes, H, W) to (B, 4 * planes, H', W')."""
        if self.with_cp and x.requires_grad:
            out = cp.checkpoint(self._before_relu, x, use_reentrant=False)
        else:
            out = self._before_relu(x)
        return self.relu(out)

    def _before_relu(self, x: Tensor) -> Tensor:
        lip, conv2 = self.conv2
        shared = self.bottleneck_shared(x)
        out = self.relu(self.norm1(self.conv1(x)))
        out = self._plugins(out, 1)
        out = self.relu(self.norm2(conv2(lip(out, shared))))
        out = self._plugins(out, 2)
        out = self._plugins(self.norm3(self.conv3(out)), 3)
        return out + self.downsample(x, shared)

    def _plugins(self, x: Tensor, place: int) -> Tensor:
        if not self.with_plugins:
            return x
        return self.forward_plugin(x, getattr(self, f'after_conv{place}_plugin_names'))


class LIPShortcut(BaseModule):
    """LIP, 1x1 convolution and norm."""

    def __init__(
        self, channels: int, out_channels: int, stride: int, conv_cfg: dict, norm_cfg: dict
    ) -> None:
        super().__init__()
        self.lip = SharedBottleneckLIP(channels, stride=stride)
        self.conv = build_conv_layer(conv_cfg, channels, out_channels, 1, bias=False)
        self.bn = build_norm_layer(norm_cfg, out_channels)[1]

    def forward(self, x: Tensor, shared: Tensor) -> Tensor:
        return self.bn(self.conv(self.lip(x, shared)))


class LIPBasicBlock(BasicBlock):
    """LIP before a plain block of stride 1.

    The paper has no ResNet of basic blocks; this form is ours.  Block and
    shortcut begin with the same map, so one LIP serves both.

    Args:
        inplanes (int): channels of the input.
        planes (int): channels of the output.
        stride (int): of the LIP.
        **kwargs: as in mmdet's ``BasicBlock``.
    """

    def __init__(self, inplanes: int, planes: int, stride: int = 2, **kwargs) -> None:
        kwargs['downsample'] = plain_shortcut(
            inplanes, planes, kwargs.get('conv_cfg'), kwargs.get('norm_cfg', dict(type='BN'))
        )
        super().__init__(inplanes, planes, **kwargs)
        self.lip = BottleneckLIP(inplanes, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inplanes, H, W) to (B, planes, H', W')."""
        return super().forward(self.lip(x))


def plain_shortcut(
    channels: int, out_channels: int, conv_cfg: dict, norm_cfg: dict
) -> nn.Sequential:
    """1x1 convolution and norm, with the authors' names."""
    return Sequential(
        OrderedDict(
            conv=build_conv_layer(conv_cfg, channels, out_channels, 1, bias=False),
            bn=build_norm_layer(norm_cfg, out_channels)[1],
        )
    )
