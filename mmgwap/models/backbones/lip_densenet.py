"""LIP-DenseNet: Gao et al., ICCV 2019, arXiv 1908.04156, section 4, on DenseNet: Huang et al., CVPR
2017, arXiv 1608.06993. Parameters are named as in torchvision's DenseNet."""

import re
from collections.abc import Sequence

import torch
import torch.utils.checkpoint as cp
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule, ModuleDict
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmgwap.models.layers.lip import BottleneckLIP, SimplifiedLIP
from mmgwap.registry import MODELS

# Layers of each dense block, growth rate, channels of the stem.
SETTINGS = {
    121: ((6, 12, 24, 16), 32, 64),
    169: ((6, 12, 32, 32), 32, 64),
    201: ((6, 12, 48, 32), 32, 64),
}


@MODELS.register_module()
class LIPDenseNet(BaseModule):
    """DenseNet that downsamples by local importance-based pooling.

    LIP replaces the max pooling of the stem and the average pooling of each transition. The
    authors' checkpoints load as they are.

    Args:
        depth (int): 121, 169 or 201.
        in_channels (int): channels of the image.
        out_indices (Sequence[int]): indices, from 0 to 3, of the dense blocks to return. All
            blocks are built; distributed training without the last needs
            ``find_unused_parameters=True``.
        frozen_stages (int): -1 freezes nothing, 0 the stem, and n > 0 also the first n dense blocks
            and the transitions behind them.
        norm_cfg (dict): config of the batch norms.
        norm_eval (bool): whether batch norms keep their running statistics in training.
        with_cp (bool): whether to recompute each dense layer in the backward pass instead of
            keeping its concatenated input.
        init_cfg (dict | list[dict]): default: He's initialization.

    Attributes:
        out_channels (list[int]): channels of each dense block, for a neck's ``in_channels``: 256,
            512, 1024 and 1024 for depth 121.

    Raises:
        ValueError: if ``depth``, ``out_indices`` or ``frozen_stages`` is out of range.
    """

    def __init__(
        self,
        depth: int,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict = None,
    ) -> None:
        super().__init__(
            init_cfg
            or [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        )
        if depth not in SETTINGS:
            raise ValueError(f'LIPDenseNet: depth must be one of {list(SETTINGS)}, got {depth!r}')
        if not out_indices or not set(out_indices) <= set(range(4)):
            raise ValueError(f'LIPDenseNet: out_indices must be in 0 to 3, got {out_indices!r}')
        if not -1 <= frozen_stages <= 4:
            raise ValueError(f'LIPDenseNet: frozen_stages must be in -1 to 4, got {frozen_stages}')
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        blocks, growth, channels = SETTINGS[depth]
        self.features = ModuleDict(
            dict(
                conv0=nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False),
                norm0=build_norm_layer(norm_cfg, channels)[1],
                pool0=SimplifiedLIP(channels),
            )
        )
        self.out_channels: list[int] = []
        for index, layers in enumerate(blocks):
            if index:
                self.features[f'transition{index}'] = LIPTransition(
                    channels, channels // 2, norm_cfg
                )
                channels //= 2
            self.features[f'denseblock{index + 1}'] = DenseBlock(
                layers, channels, growth, norm_cfg, with_cp
            )
            channels += layers * growth
            self.out_channels.append(channels)
        self.features['norm5'] = build_norm_layer(norm_cfg, channels)[1]
        self.relu = nn.ReLU(inplace=True)
        self.register_load_state_dict_pre_hook(_rename)
        self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features of the dense blocks in ``out_indices``, after their norm and ReLU.

        Args:
            x (Tensor): (B, in_channels, H, W).

        Returns:
            tuple[Tensor]: (B, ``out_channels[i]``, H / s, W / s) with s = 4, 8, 16, 32; halves are
            rounded up in the stem and down behind it.
        """
        features = self.features
        x = self.relu(features['norm0'](features['conv0'](x)))
        x = features['pool0'](x)
        outs = []
        for index in range(max(self.out_indices) + 1):
            if index:
                x = features[f'transition{index}'].downsample(x)
            x = features[f'denseblock{index + 1}'](x)
            norm = features['norm5'] if index == 3 else features[f'transition{index + 1}'].norm
            x = self.relu(norm(x))
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def _freeze_stages(self) -> None:
        stages = [['conv0', 'norm0', 'pool0']]
        stages += [[f'denseblock{index}', f'transition{index}'] for index in (1, 2, 3)]
        stages.append(['denseblock4', 'norm5'])
        for name in sum(stages[: self.frozen_stages + 1], []):
            self.features[name].eval().requires_grad_(False)

    def train(self, mode: bool = True) -> 'LIPDenseNet':
        """Set the mode; frozen stages and, with ``norm_eval``, batch norms stay in evaluation."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


# Other names in checkpoints: the authors number the layers of the stem's LIP (conv1, bn1), and
# torchvision's older files have a dot in the names of the dense layers (norm.1).
_NAMES = (
    (r'^(features\.pool0\.logit\.(?:conv|bn))1\.', r'\1.'),
    (r'^(features\.denseblock\d\.denselayer\d+\.(?:norm|conv))\.([12])\.', r'\1\2.'),
)


def _rename(module: nn.Module, state_dict: dict, prefix: str, *args) -> None:
    """Rename the parameters of other implementations, before loading."""
    for key in list(state_dict):
        if key.startswith(prefix):
            name = key[len(prefix) :]
            for old, new in _NAMES:
                name = re.sub(old, new, name)
            state_dict[prefix + name] = state_dict.pop(key)


class DenseBlock(nn.ModuleDict):
    """Dense block: each layer reads the concatenated results of all layers before it.

    Maps (B, C, H, W) to (B, C + layers * growth, H, W).
    """

    def __init__(
        self, layers: int, channels: int, growth: int, norm_cfg: dict, with_cp: bool
    ) -> None:
        super().__init__(
            {
                f'denselayer{index + 1}': DenseLayer(channels + index * growth, growth, norm_cfg)
                for index in range(layers)
            }
        )
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.values():
            if self.with_cp and any(one.requires_grad for one in maps):
                maps.append(cp.checkpoint(layer, *maps, use_reentrant=False))
            else:
                maps.append(layer(*maps))
        return torch.cat(maps, dim=1)


class DenseLayer(nn.Module):
    """Dense layer: norm, ReLU, 1x1 convolution to 4 * growth channels; norm, ReLU, 3x3."""

    def __init__(self, channels: int, growth: int, norm_cfg: dict) -> None:
        super().__init__()
        self.norm1 = build_norm_layer(norm_cfg, channels)[1]
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.norm2 = build_norm_layer(norm_cfg, 4 * growth)[1]
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, *maps: Tensor) -> Tensor:
        out = self.conv1(self.relu(self.norm1(torch.cat(maps, dim=1))))
        return self.conv2(self.relu(self.norm2(out)))


class LIPTransition(BaseModule):
    """Transition: norm, ReLU, 1x1 convolution, and LIP in place of the 2x2 average pooling."""

    def __init__(self, channels: int, out_channels: int, norm_cfg: dict) -> None:
        super().__init__()
        self.norm = build_norm_layer(norm_cfg, channels)[1]
        self.conv = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.pool = BottleneckLIP(out_channels, kernel_size=2, stride=2, padding=0)

    def downsample(self, x: Tensor) -> Tensor:
        """Convolve and pool. Norm and ReLU run in the backbone, which returns their result."""
        return self.pool(self.conv(x))
