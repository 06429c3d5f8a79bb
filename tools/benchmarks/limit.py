"""The least that an operator has to move, and how fast this device moves it.

On tensors larger than the caches, an operator that computes little takes at
least the time that its inputs and outputs take through the memory.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from timing import measure
from torch import Tensor

COPIED_BYTES = dict(cuda=2**30, cpu=2**27)


class Traffic(NamedTuple):
    """Bytes that must move.

    Attributes:
        forward: each input read once, the output written once.
        backward: the output's gradient and what the formula needs of the
            inputs read once, each gradient written once.
        once: of both, if nothing had to be read a second time.  No two
            kernels reach it: the backward pass begins after the forward pass
            has ended.
    """

    forward: int
    backward: int
    once: int

    @property
    def both(self) -> int:
        return self.forward + self.backward


def lip_traffic(inputs: Sequence[Tensor], out: Tensor, gradients: Sequence[Tensor]) -> Traffic:
    """Of ``lip2d``: its backward pass needs x and logit, but not the output."""
    read = sum(one.nbytes for one in inputs)
    written = sum(one.nbytes for one in gradients)
    return Traffic(read + out.nbytes, read + out.nbytes + written, read + 2 * out.nbytes + written)


def vote_traffic(inputs: Sequence[Tensor], out: Tensor, gradients: Sequence[Tensor]) -> Traffic:
    """Of ``ps_roi_vote``: the cells that some RoI reads, and all gradients.

    Where a RoI reads a cell, the cell has a gradient; a gradient is written as
    a whole, zeros too, but without the map.
    """
    maps, rois = inputs
    read = int(gradients[0].count_nonzero()) * maps.element_size()
    ends = rois.nbytes + out.nbytes
    return Traffic(
        read + ends, gradients[0].nbytes + ends, read + gradients[0].nbytes + ends + out.nbytes
    )


def copy_bandwidth(device: torch.device, runs: int = 10, size: int = None) -> float:
    """Bytes a second, read and written, of a copy that no cache holds."""
    size = size or COPIED_BYTES[device.type]
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    found = measure({'copy': lambda: target.copy_(source)}, device, runs)
    return 2 * source.nbytes / (found['copy'].median * 1e-3)
