"""Layers of local importance-based pooling (LIP): Gao et al., ICCV 2019, arXiv
1908.04156, section 4.

A small net of convolutions looks at a feature map and says how important each
cell is; ``lip2d`` then averages each window by these importances.  Submodules
are named as in the authors' checkpoints.  Of their classes, ``BottleneckShared``
is ``BottleneckLogit`` here, and LIP-ResNet's ``BottleneckLIP``, which needs it, is
``SharedBottleneckLIP``; ``BottleneckLIP`` is whole, as LIP-DenseNet's.

All logits are equal at first: training begins as average pooling.  The authors
start the last convolution at zero.  Here the weight of the norm behind it starts
at zero instead: that norm would divide a map of zeros by the root of its epsilon,
and enlarge gradients 316 times, to a norm that clipping takes for all of the
network's; and an initialization of a model's convolutions, as by ``init_cfg``,
doesn't undo it.

Shapes: maps are (B, C, H, W), pooled maps (B, C, H', W'), as ``lip2d`` has it.
"""

from collections import OrderedDict

import torch
from mmengine.model import BaseModule, Sequential
from torch import Tensor, nn

from mmgwap.ops.lip import LIP2d, apply_gate
from mmgwap.ops.windows import Pair


class SoftGate(nn.Module):
    """``12 * sigmoid(x)``: logits of LIP, in (0, 12).

    The layers here leave it to ``lip2d``, which spares its memory; the module
    is for nets of one's own.  The result is float32 or wider, since it will be
    exponentiated: near 12 float16 is exact to 0.004 only.
    """

    COEFFICIENT = 12.0

    def forward(self, x: Tensor) -> Tensor:
        return apply_gate(x, self.COEFFICIENT)


class InstanceNorm(nn.InstanceNorm2d):
    """Affine instance normalization, of maps of a single cell too.

    Such a map becomes its bias; torch's module refuses it in training.

    Args:
        channels (int): C.
        start (float): of the weights.
    """

    def __init__(self, channels: int, start: float = 1.0) -> None:
        super().__init__(channels, affine=True)
        nn.init.constant_(self.weight, start)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] == 0:  # which torch can't normalize
            return x * self.weight[:, None, None] + self.bias[:, None, None]
        return torch.instance_norm(
            x,
            self.weight,
            self.bias,
            None,
            None,
            True,
            self.momentum,
            self.eps,
            torch.backends.cudnn.enabled,
        )


class LIPLayer(BaseModule):
    """Base of the layers.

    Args:
        kernel_size (int | tuple[int, int]): of the windows, in cells.
        stride (int | tuple[int, int]): from window to window, in cells.
        padding (int | tuple[int, int]): cells around the map, which don't
            count.
        ceil_mode (bool): as in ``torch.nn.MaxPool2d``.
    """

    def __init__(
        self, kernel_size: Pair = 3, stride: Pair = 2, padding: Pair = 1, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        self.pool = LIP2d(kernel_size, stride, padding, ceil_mode, gate=SoftGate.COEFFICIENT)


class SimplifiedLIP(LIPLayer):
    """LIP whose logits come from one 3x3 convolution of the map itself.

    Args:
        channels (int): C.
        **windows: as in :class:`LIPLayer`.
    """

    def __init__(self, channels: int, **windows) -> None:
        super().__init__(**windows)
        self.logit = Sequential(
            OrderedDict(conv=conv(channels, channels, 3), bn=InstanceNorm(channels, start=0.0))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x, self.logit(x))


class BottleneckLIP(LIPLayer):
    """LIP whose logits come from a bottleneck of convolutions of the map.

    Args:
        channels (int): C.
        width (int): channels within the bottleneck; 128 in the paper.
        **windows: as in :class:`LIPLayer`.
    """

    def __init__(self, channels: int, width: int = 128, **windows) -> None:
        super().__init__(**windows)
        self.logit = Sequential(
            OrderedDict(
                bottleneck(channels, width),
                conv3=conv(width, channels, 1),
                bn3=InstanceNorm(channels, start=0.0),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x, self.logit(x))


class BottleneckLogit(BaseModule):
    """The part of a bottleneck that several LIPs share.

    Args:
        channels (int): C.
        width (int): channels within the bottleneck.
    """

    def __init__(self, channels: int, width: int = 128) -> None:
        super().__init__()
        self.logit = Sequential(bottleneck(channels, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, width, H, W)."""
        return self.logit(x)


class SharedBottleneckLIP(LIPLayer):
    """LIP whose logits come from a :class:`BottleneckLogit`.

    Args:
        channels (int): C.
        width (int): channels of the bottleneck.
        **windows: as in :class:`LIPLayer`.
    """

    def __init__(self, channels: int, width: int = 128, **windows) -> None:
        super().__init__(**windows)
        self.postprocessing = Sequential(
            OrderedDict(conv=conv(width, channels, 1), bn=InstanceNorm(channels, start=0.0))
        )

    def forward(self, x: Tensor, shared: Tensor) -> Tensor:
        """``shared`` is (B, width, H, W)."""
        return self.pool(x, self.postprocessing(shared))


def bottleneck(channels: int, width: int) -> OrderedDict:
    """1x1 and 3x3 convolution, each with norm and ReLU."""
    return OrderedDict(
        conv1=conv(channels, width, 1),
        bn1=InstanceNorm(width),
        relu1=nn.ReLU(inplace=True),
        conv2=conv(width, width, 3),
        bn2=InstanceNorm(width),
        relu2=nn.ReLU(inplace=True),
    )


def conv(channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    # A norm follows, which would take a bias away.
    return nn.Conv2d(channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
