"""LIP-DenseNet: Gao et al., ICCV 2019, arXiv 1908.04156, section 4, on
DenseNet: Huang et al., CVPR 2017, arXiv 1608.06993."""

import re
from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule, ModuleDict
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmgwap.argument_checks import check_flag, check_indices, check_norm, check_whole
from mmgwap.models.layers.lip import SimplifiedLIP
from mmgwap.registry import MODELS

from .densenet_blocks import DenseBlock, LIPTransition

# Layers of each dense block, growth rate, channels of the stem.
SETTINGS = {
    121: ((6, 12, 24, 16), 32, 64),
    169: ((6, 12, 32, 32), 32, 64),
    201: ((6, 12, 48, 32), 32, 64),
}


@MODELS.register_module()
class LIPDenseNet(BaseModule):
    """DenseNet that downsamples by local importance-based pooling.

    LIP takes the place of the stem's maximum pooling and of the average
    pooling in each transition.  Parameters have the names of the authors'
    checkpoints, which are torchvision's where the two agree.

    Args:
        depth (int): 121, 169 or 201.
        in_channels (int): of the image.
        out_indices (Sequence[int]): which dense blocks to return, of 0 to 3.
            All are built; distributed training without the last needs
            ``find_unused_parameters=True``.
        frozen_stages (int): -1 freezes nothing, 0 the stem, and n > 0 the
            first n dense blocks and the transitions behind them too.
        norm_cfg (dict): of the batch norms.
        norm_eval (bool): whether batch norms keep their running statistics in
            training.
        with_cp (bool): whether to compute each dense layer again in the
            backward pass instead of keeping what it concatenates.
        init_cfg (dict | list[dict]): default: He's initialization.

    Attributes:
        out_channels (list[int]): channels of each dense block, for a neck's
            ``in_channels``: 256, 512, 1024 and 1024 for depth 121.

    Raises:
        ValueError: if ``depth``, ``out_indices`` or ``frozen_stages`` is not
            one of these.
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
        _check(depth, out_indices, frozen_stages)
        check_whole(in_channels, 'LIPDenseNet: in_channels')
        check_norm(norm_cfg, 'LIPDenseNet: norm_cfg')
        check_flag(norm_eval, 'LIPDenseNet: norm_eval')
        check_flag(with_cp, 'LIPDenseNet: with_cp')
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
        for place, layers in enumerate(blocks):
            if place:
                self.features[f'transition{place}'] = LIPTransition(
                    channels, channels // 2, norm_cfg
                )
                channels //= 2
            self.features[f'denseblock{place + 1}'] = DenseBlock(
                layers, channels, growth, norm_cfg, with_cp
            )
            channels += layers * growth
            self.out_channels.append(channels)
        self.features['norm5'] = build_norm_layer(norm_cfg, channels)[1]
        self.relu = nn.ReLU(inplace=True)
        self._register_load_state_dict_pre_hook(_rename)
        self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of the dense blocks in ``out_indices``, each behind the norm
        and ReLU that follow it.

        Args:
            x (Tensor): (B, in_channels, H, W).

        Returns:
            tuple[Tensor]: (B, ``out_channels[i]``, H / s, W / s) with s = 4, 8,
            16, 32; halves are rounded up in the stem, and down behind it.
        """
        features = self.features
        x = self.relu(features['norm0'](features['conv0'](x)))
        x = features['pool0'](x)
        outs = []
        for place in range(max(self.out_indices) + 1):
            if place:
                x = features[f'transition{place}'].downsample(x)
            x = features[f'denseblock{place + 1}'](x)
            norm = features['norm5'] if place == 3 else features[f'transition{place + 1}'].norm
            x = self.relu(norm(x))
            if place in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def _freeze_stages(self) -> None:
        stages = [['conv0', 'norm0', 'pool0']]
        stages += [[f'denseblock{place}', f'transition{place}'] for place in (1, 2, 3)]
        stages.append(['denseblock4', 'norm5'])
        for name in sum(stages[: self.frozen_stages + 1], []):
            self.features[name].eval().requires_grad_(False)

    def train(self, mode: bool = True) -> 'LIPDenseNet':
        """Frozen stages stay in evaluation mode, and with ``norm_eval`` all
        batch norms."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def _check(depth: int, out_indices: Sequence[int], frozen_stages: int) -> None:
    if type(depth) is not int or depth not in SETTINGS:
        raise ValueError(f'LIPDenseNet has the depths {list(SETTINGS)}, not {depth!r:.80}')
    check_indices(out_indices, 'out_indices of LIPDenseNet', 4)
    check_whole(frozen_stages, 'frozen_stages of LIPDenseNet', -1, 4)


# The stem's LIP is a module of its own among the authors', and torchvision's
# older files have a point in the names of the dense layers.
_NAMES = (
    (r'^(features\.pool0\.logit\.(?:conv|bn))1\.', r'\1.'),
    (r'^(features\.denseblock\d\.denselayer\d+\.(?:norm|conv))\.([12])\.', r'\1\2.'),
)


def _rename(state_dict: dict, prefix: str, *args) -> None:
    for key in list(state_dict):
        if key.startswith(prefix):
            name = key[len(prefix) :]
            for old, new in _NAMES:
                name = re.sub(old, new, name)
            state_dict[prefix + name] = state_dict.pop(key)
