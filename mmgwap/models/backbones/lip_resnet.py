"""LIP-ResNet: Gao et al., ICCV 2019, arXiv 1908.04156, section 4."""

import re

from mmdet.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from mmengine.model import Sequential

from mmgwap.models.layers.lip import SimplifiedLIP
from mmgwap.registry import MODELS

from .lip_blocks import LIPBasicBlock, LIPBottleneck, plain_shortcut

LIP_BLOCKS = {Bottleneck: LIPBottleneck, BasicBlock: LIPBasicBlock}


@MODELS.register_module()
class LIPResNet(ResNet):
    """ResNet that downsamples by local importance-based pooling.

    LIP takes the place of the stem's maximum pooling, and in the first block of
    res3, res4 and res5 of the strided 3x3 convolution and the strided shortcut.
    Depths 50, 101 and 152 are the paper's network; for 18 and 34 see
    :class:`~mmgwap.models.backbones.lip_blocks.LIPBasicBlock`.

    A last stage of stride 1, as R-FCN's dilated res5, keeps its LIPs from depth
    50 on, with stride 1, and so its pretrained weights: at every second cell it
    then computes what the strided stage does.

    The authors' checkpoints fit as they are, and torchvision's plain ResNets in
    what the two share: all but the logits and, from depth 50 on, the 3x3
    convolutions that are no more.  With the latter leave ``frozen_stages`` at -1,
    or the stem's LIP stays the average pooling that it starts as.

    Args:
        depth (int): 18, 34, 50, 101 or 152.
        **kwargs: as in mmdet's ``ResNet``.  ``dcn`` applies to the blocks that
            don't downsample; ``frozen_stages=0`` and above freezes the stem's
            LIP too; ``norm_eval`` concerns batch norms, the instance norms of
            the logits have no running statistics.

    Raises:
        ValueError: for ``style='caffe'`` and ``avg_down=True``, which say how
            blocks downsample without LIP.

    Returns (forward):
        tuple[Tensor]: of each stage in ``out_indices``, (B, C, H', W') with
        the channels and strides of the plain ResNet.
    """

    def __init__(self, depth: int, **kwargs) -> None:
        if type(depth) is not int or depth not in self.arch_settings:
            raise ValueError(
                f'LIPResNet has the depths {list(self.arch_settings)}, not {depth!r:.80}'
            )
        if kwargs.get('style', 'pytorch') != 'pytorch':
            raise ValueError(
                "LIPResNet has no style='caffe': LIP takes the place of the "
                "strided convolution of style='pytorch'; leave style out, and "
                'prepare images as its checkpoint wants them'
            )
        if kwargs.get('avg_down'):
            raise ValueError(
                'LIPResNet has no avg_down=True: LIP takes the place of the '
                "shortcut's average pooling; leave avg_down out"
            )
        super().__init__(depth, **kwargs)
        self._register_load_state_dict_pre_hook(_name_shortcuts)

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
        """A stage: its first block downsamples, or would in a plain ResNet."""
        out_channels = planes * block.expansion
        # res2 follows the stem's pooling and has the stride 1.  Where another
        # stage has, the paper's block keeps its LIPs and pretrained weights;
        # without such, a LIP of stride 1 would only blur.
        dilated = self.res_layers and block is Bottleneck
        if stride > 1 or dilated:
            first = LIP_BLOCKS[block](inplanes, planes, stride=stride, **kwargs)
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


def _name_shortcuts(state_dict: dict, prefix: str, *args) -> None:
    """Let torchvision's names of a shortcut be the authors'."""
    names = {'0': 'conv', '1': 'bn'}
    pattern = re.compile(re.escape(prefix) + r'layer\d+\.0\.downsample\.([01])\.')
    for key in list(state_dict):
        found = pattern.match(key)
        if found:
            start = key[: found.start(1)] + names[found.group(1)]
            state_dict[start + key[found.end(1) :]] = state_dict.pop(key)
