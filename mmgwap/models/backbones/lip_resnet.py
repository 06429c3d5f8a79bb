"""LIP-ResNet: Gao et al., ICCV 2019, arXiv 1908.04156, section 4."""

import re
from collections import OrderedDict

import torch.utils.checkpoint as cp
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from mmengine.model import BaseModule, Sequential
from torch import Tensor, nn

from mmgwap.models.layers.lip import (
    BottleneckLIP,
    BottleneckLogit,
    SharedBottleneckLIP,
    SimplifiedLIP,
)
from mmgwap.registry import MODELS


@MODELS.register_module()
class LIPResNet(ResNet):
    """ResNet that downsamples by local importance-based pooling.

    LIP replaces the max pooling of the stem and, in the first block of res3, res4 and res5, the
    strided 3x3 convolution and the strided shortcut. Depths 50, 101 and 152 are the paper's
    network; for depths 18 and 34 see :class:`LIPBasicBlock`.

    From depth 50 on, a last stage of stride 1, such as R-FCN's dilated res5, keeps its LIPs, with
    stride 1, and its pretrained weights. At every second cell it gives the value that the strided
    stage gives.

    The authors' checkpoints load as they are. Checkpoints of torchvision's plain ResNets load
    too, except for the layers that differ: they have no weights for the logits and, from depth 50
    on, their strided 3x3 convolutions are not used. With a plain checkpoint leave
    ``frozen_stages`` at -1. Otherwise the LIP of the stem remains an average pooling.

    Args:
        depth (int): 18, 34, 50, 101 or 152.
        **kwargs: as for mmdet's ``ResNet``. ``dcn`` applies to the blocks that do not downsample;
            ``frozen_stages`` of 0 and above freezes the LIP of the stem too; ``norm_eval`` applies
            to batch norms, since the instance norms of the logits have no running statistics.

    Raises:
        KeyError: if ``depth`` is not one of these.
        ValueError: for ``style='caffe'`` and ``avg_down=True``, which only describe how blocks
            downsample without LIP.

    Returns (forward):
        tuple[Tensor]: (B, C, H', W') of each stage in ``out_indices``, with the channels and
        strides of the plain ResNet.
    """

    def __init__(self, depth: int, **kwargs) -> None:
        if kwargs.get('style', 'pytorch') != 'pytorch':
            raise ValueError(
                f"LIPResNet: style must be 'pytorch', got {kwargs['style']!r}: LIP replaces the "
                'strided convolution that style moves; preprocess images as the checkpoint needs'
            )
        if kwargs.get('avg_down'):
            raise ValueError(
                "LIPResNet: avg_down must be False: LIP replaces the shortcut's average pooling"
            )
        super().__init__(depth, **kwargs)
        self.register_load_state_dict_pre_hook(_rename_shortcuts)

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        super()._make_stem_layer(in_channels, stem_channels)
        self.maxpool = SimplifiedLIP(stem_channels)

    def make_res_layer(
        self,
        block: type,
        inplanes: int,
        planes: int,
        num_blocks: int,
        stride: int,
        avg_down: bool,
        **kwargs,
    ) -> Sequential:
        """Build a stage, whose first block downsamples in a plain ResNet."""
        lip_blocks = {Bottleneck: LIPBottleneck, BasicBlock: LIPBasicBlock}
        out_channels = planes * block.expansion
        # res2 follows the pooling of the stem and has stride 1. In another stage of stride 1 the
        # paper's block keeps its LIPs and pretrained weights; a basic block has no weights to keep,
        # and its LIP would only blur.
        dilated = self.res_layers and block is Bottleneck
        if stride > 1 or dilated:
            first = lip_blocks[block](inplanes, planes, stride=stride, **kwargs)
        else:
            shortcut = None
            if inplanes != out_channels:
                shortcut = plain_shortcut(
                    inplanes, out_channels, kwargs['conv_cfg'], kwargs['norm_cfg']
                )
            first = block(inplanes, planes, downsample=shortcut, **kwargs)
        others = [block(out_channels, planes, **kwargs) for _ in range(1, num_blocks)]
        return Sequential(first, *others)

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        if self.frozen_stages >= 0:
            self.maxpool.eval().requires_grad_(False)


def _rename_shortcuts(module: nn.Module, state_dict: dict, prefix: str, *args) -> None:
    """Rename torchvision's parameters of a shortcut to the authors' names, before loading."""
    names = {'0': 'conv', '1': 'bn'}
    pattern = re.compile(re.escape(prefix) + r'layer\d+\.0\.downsample\.([01])\.')
    for key in list(state_dict):
        match = pattern.match(key)
        if match:
            renamed = key[: match.start(1)] + names[match.group(1)] + key[match.end(1) :]
            state_dict[renamed] = state_dict.pop(key)


class LIPBottleneck(Bottleneck):
    """Bottleneck with LIP and a 1x1 convolution in place of the strided 3x3 convolution.

    The logits of the LIPs in the block and in its shortcut are computed from the block's input, by
    a shared bottleneck of convolutions and a 1x1 convolution for each LIP: arXiv 1908.04156,
    section 4.2.

    Args:
        inplanes (int): channels of the input.
        planes (int): channels within the block; the output has four times as many.
        stride (int): stride of both LIPs.
        dilation (int), dcn (dict): ignored, because there is no 3x3 convolution.
        **kwargs: as for mmdet's ``Bottleneck``.
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
        """Map (B, inplanes, H, W) to (B, 4 * planes, H', W')."""
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

    def _plugins(self, x: Tensor, position: int) -> Tensor:
        if not self.with_plugins:
            return x
        return self.forward_plugin(x, getattr(self, f'after_conv{position}_plugin_names'))


class LIPShortcut(BaseModule):
    """Shortcut of LIP, 1x1 convolution and norm."""

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
    """LIP followed by a plain block of stride 1.

    The paper has no ResNet of basic blocks; this form is ours. Block and shortcut begin with the
    same map, so one LIP serves both.

    Args:
        inplanes (int): channels of the input.
        planes (int): channels of the output.
        stride (int): stride of the LIP.
        **kwargs: as for mmdet's ``BasicBlock``.
    """

    def __init__(self, inplanes: int, planes: int, stride: int = 2, **kwargs) -> None:
        kwargs['downsample'] = plain_shortcut(
            inplanes, planes, kwargs.get('conv_cfg'), kwargs.get('norm_cfg', dict(type='BN'))
        )
        super().__init__(inplanes, planes, **kwargs)
        self.lip = BottleneckLIP(inplanes, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inplanes, H, W) to (B, planes, H', W')."""
        return super().forward(self.lip(x))


def plain_shortcut(
    channels: int, out_channels: int, conv_cfg: dict, norm_cfg: dict
) -> nn.Sequential:
    """Build a shortcut of 1x1 convolution and norm, named as by the authors."""
    return Sequential(
        OrderedDict(
            conv=build_conv_layer(conv_cfg, channels, out_channels, 1, bias=False),
            bn=build_norm_layer(norm_cfg, out_channels)[1],
        )
    )
