"""Dense block and transition of DenseNet: Huang et al., CVPR 2017, arXiv
1608.06993, with parameters named as torchvision's."""

import torch
import torch.utils.checkpoint as cp
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmgwap.models.layers.lip import BottleneckLIP


class DenseBlock(nn.ModuleDict):
    """Layers, of which each takes the results of all before it.

    ``denselayer1`` and so on; (B, C, H, W) to (B, C + layers * growth, H, W).
    """

    def __init__(
        self, layers: int, channels: int, growth: int, norm_cfg: dict, with_cp: bool
    ) -> None:
        super().__init__(
            {
                f'denselayer{place + 1}': DenseLayer(channels + place * growth, growth, norm_cfg)
                for place in range(layers)
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
    """Norm, ReLU, 1x1 convolution to four times the growth; the same with 3x3."""

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
    """Norm, ReLU, 1x1 convolution, and LIP in place of the average pooling.

    The LIP has windows of 2x2 without overlap, as that pooling has.
    """

    def __init__(self, channels: int, out_channels: int, norm_cfg: dict) -> None:
        super().__init__()
        self.norm = build_norm_layer(norm_cfg, channels)[1]
        self.conv = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.pool = BottleneckLIP(out_channels, kernel_size=2, stride=2, padding=0)

    def downsample(self, x: Tensor) -> Tensor:
        """Convolution and pooling; norm and ReLU are the backbone's, which
        returns their result."""
        return self.pool(self.conv(x))
