"""Layers of local importance-based pooling (LIP): Gao et al., ICCV 2019, arXiv 1908.04156, section
4.

A small network of convolutions computes the importance of each cell of a feature map, and ``lip2d``
averages each window weighted by importance. Submodules are named as in the authors' checkpoints.
The authors' ``BottleneckShared`` is ``BottleneckLogit`` here. The ``BottleneckLIP`` of their
LIP-ResNet, which reads it, is ``SharedBottleneckLIP`` here. ``BottleneckLIP`` has a bottleneck of
its own, as in LIP-DenseNet.

All logits are equal at first, so training begins as average pooling. The authors initialize the
last convolution with zeros. Here the weight of the norm behind it is zero instead, for two reasons:

* Behind a map of zeros, the norm divides by the root of its epsilon and enlarges gradients 316
  times. Gradient clipping would then scale down the rest of the network.
* An ``init_cfg`` for all convolutions of a model does not change a norm.

Shapes: maps are (B, C, H, W), pooled maps (B, C, H', W').
"""

from collections import OrderedDict

import torch
from mmengine.model import BaseModule, Sequential
from torch import Tensor, nn

from mmgwap.ops.lip import LIP2d, apply_gate
from mmgwap.ops.windows import Pair


class SoftGate(nn.Module):
    """Gate ``12 * sigmoid(x)``: logits of LIP, in (0, 12).

    The layers in this module pass the gate to ``lip2d``, which needs no memory for it; this class
    is for networks outside the package. The result is float32 or wider, because it is
    exponentiated: near 12 the spacing of float16 is 0.008.
    """

    COEFFICIENT = 12.0

    def forward(self, x: Tensor) -> Tensor:
        return apply_gate(x, self.COEFFICIENT)


class InstanceNorm(nn.InstanceNorm2d):
    """Affine instance normalization that accepts maps of a single cell and empty batches.

    A map of a single cell becomes its bias; torch's module raises an error in training.

    Args:
        channels (int): C.
        start (float): initial value of the weights.
    """

    def __init__(self, channels: int, start: float = 1.0) -> None:
        super().__init__(channels, affine=True)
        nn.init.constant_(self.weight, start)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] == 0:  # torch raises an error
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
    """Base class of the LIP layers.

    Args:
        kernel_size (int | tuple[int, int]): size of the windows, in cells.
        stride (int | tuple[int, int]): distance between windows, in cells.
        padding (int | tuple[int, int]): cells around the map, which do not count.
        ceil_mode (bool): as in ``torch.nn.MaxPool2d``.
    """

    def __init__(
        self, kernel_size: Pair = 3, stride: Pair = 2, padding: Pair = 1, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        self.pool = LIP2d(kernel_size, stride, padding, ceil_mode, gate=SoftGate.COEFFICIENT)


class SimplifiedLIP(LIPLayer):
    """LIP with logits from one 3x3 convolution of the map itself.

    Args:
        channels (int): C.
        **windows: arguments of :class:`LIPLayer`.
    """

    def __init__(self, channels: int, **windows) -> None:
        super().__init__(**windows)
        self.logit = Sequential(
            OrderedDict(conv=conv(channels, channels, 3), bn=InstanceNorm(channels, start=0.0))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x, self.logit(x))


class BottleneckLIP(LIPLayer):
    """LIP with logits from a bottleneck of convolutions of the map.

    Args:
        channels (int): C.
        width (int): channels within the bottleneck, 128 in the paper.
        **windows: arguments of :class:`LIPLayer`.
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
    """Bottleneck of convolutions that several LIPs share.

    Args:
        channels (int): C.
        width (int): channels within the bottleneck.
    """

    def __init__(self, channels: int, width: int = 128) -> None:
        super().__init__()
        self.logit = Sequential(bottleneck(channels, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, width, H, W)."""
        return self.logit(x)


class SharedBottleneckLIP(LIPLayer):
    """LIP with logits from the result of a :class:`BottleneckLogit`.

    Args:
        channels (int): C.
        width (int): channels of the bottleneck.
        **windows: arguments of :class:`LIPLayer`.
    """

    def __init__(self, channels: int, width: int = 128, **windows) -> None:
        super().__init__(**windows)
        self.postprocessing = Sequential(
            OrderedDict(conv=conv(width, channels, 1), bn=InstanceNorm(channels, start=0.0))
        )

    def forward(self, x: Tensor, shared: Tensor) -> Tensor:
        """Pool x, (B, C, H, W), by logits from ``shared``, (B, width, H, W)."""
        return self.pool(x, self.postprocessing(shared))


def bottleneck(channels: int, width: int) -> OrderedDict:
    """Build a 1x1 and a 3x3 convolution, each with norm and ReLU."""
    return OrderedDict(
        conv1=conv(channels, width, 1),
        bn1=InstanceNorm(width),
        relu1=nn.ReLU(inplace=True),
        conv2=conv(width, width, 3),
        bn2=InstanceNorm(width),
        relu2=nn.ReLU(inplace=True),
    )


def conv(channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    """Build a convolution without bias, which the norm behind it would cancel."""
    return nn.Conv2d(channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
