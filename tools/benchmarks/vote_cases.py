"""``ps_roi_vote`` against pooling the bins and taking their mean."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Callable, NamedTuple

import torch
from limit import vote_traffic
from operator_case import Contender, OperatorCase
from sizes import Sizes
from targets import Target, less_memory
from torch import Tensor

BINS, STRIDE = 7, 16
OURS, PLAIN = "ps_roi_vote, the head's layout", 'ps_roi_vote'
TORCHVISION = "torchvision's ps_roi_align, mean"
WITH_BINS = dict(align='ps_roi_align on mmcv, mean', pool='ps_roi_pool, mean')


class Work(NamedTuple):
    """RoIs, classes with the background, images, and a map's (H, W)."""

    rois: int
    classes: int
    batch: int
    size: Sequence[int]

    def text(self) -> str:
        return (
            f'{self.rois} RoIs, {self.classes} classes, {self.batch} x '
            f'{self.size[0]} x {self.size[1]}'
        )


def make_rois(work: Work) -> Tensor:
    """RoIs of all sizes within the images, (K, 5)."""
    size = torch.tensor([work.size[1], work.size[0]]) * STRIDE
    start = torch.rand(work.rois, 2) * (size - 2 * STRIDE)
    end = start + STRIDE + torch.rand(work.rois, 2) * (size - start - STRIDE)
    index = torch.arange(work.rois)[:, None] % work.batch
    return torch.cat([index, start, end], dim=1)


def heads_layout(inputs: Sequence[Tensor]) -> list[Tensor]:
    """The map as R-FCN's head makes it: (B, C, P*P, H, W), and in memory
    (B, H, W, P*P, C)."""
    maps, rois = inputs
    maps = maps.unflatten(1, (-1, BINS**2)).permute(0, 3, 4, 2, 1)
    return [maps.contiguous().permute(0, 4, 3, 1, 2), rois]


def contenders(mode: str, device: torch.device) -> dict[str, Contender]:
    found = {
        OURS: Contender(partial(_vote, mode=mode), heads_layout),
        PLAIN: Contender(partial(_vote, mode=mode)),
        WITH_BINS[mode]: Contender(partial(_by_bins, mode=mode)),
    }
    if mode == 'align':
        torchvision = torchvisions_align()
        if torchvision:
            found[TORCHVISION] = Contender(torchvision)
    if device.type == 'cuda':
        found[f'{OURS}, MMGWAP_KERNELS=off'] = Contender(
            partial(_without_kernels, mode=mode), heads_layout
        )
    return found


def _vote(maps: Tensor, rois: Tensor, mode: str) -> Tensor:
    from mmgwap.ops import ps_roi_vote

    return ps_roi_vote(maps, rois, BINS, 1 / STRIDE, mode)


def _without_kernels(maps: Tensor, rois: Tensor, mode: str) -> Tensor:
    from mmgwap.ops.triton import triton_disabled

    with triton_disabled():
        return _vote(maps, rois, mode)


def _by_bins(maps: Tensor, rois: Tensor, mode: str) -> Tensor:
    from mmgwap import ops

    pool = ops.ps_roi_align if mode == 'align' else ops.ps_roi_pool
    return pool(maps, rois, BINS, 1 / STRIDE).mean((2, 3))


def torchvisions_align() -> Callable[..., Tensor]:
    """Its operator and a mean; None where torchvision does not import, which
    the head of the report tells."""
    try:
        from torchvision.ops import ps_roi_align
    except Exception:  # built for another torch, it raises what it likes
        return None
    return lambda maps, rois: ps_roi_align(maps, rois, BINS, 1 / STRIDE, 2).mean((2, 3))


def cases(sizes: Sizes, device: torch.device) -> Iterator[OperatorCase]:
    for values in sizes.votes:
        work = Work(*values)
        for mode in WITH_BINS:
            yield OperatorCase(
                f'{mode}, {work.text()}, forward + backward',
                contenders(mode, device),
                partial(make_inputs, work, device),
                targets=_targets(mode, sizes),
                traffic=vote_traffic,
            )


def make_inputs(work: Work, device: torch.device) -> list[Tensor]:
    maps = torch.randn(work.batch, work.classes * BINS**2, *work.size, device=device)
    return [maps, make_rois(work).to(device)]


def _targets(mode: str, sizes: Sizes) -> tuple:
    found = [less_memory(ours, WITH_BINS[mode]) for ours in (OURS, PLAIN)]
    if mode == 'align':
        for other, least in (
            (TORCHVISION, sizes.vote_torchvision),
            (WITH_BINS[mode], sizes.vote_bins),
        ):
            found += [Target(other, 'at least', least, ours) for ours in (OURS, PLAIN) if least]
    return tuple(found)
