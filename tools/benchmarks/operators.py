"""Cases of ``lip2d`` and ``ps_roi_vote`` beside implementations of the same formula."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import Callable

import torch
import torch.nn.functional as F
from case import Case, Contender, Point, Target
from torch import Tensor

from mmgwap.ops import lip2d, ps_roi_align, ps_roi_pool, ps_roi_vote
from mmgwap.ops.triton import triton_disabled

LAYOUTS = {'NCHW': torch.contiguous_format, 'channels-last': torch.channels_last}
DTYPES = dict(cuda=[torch.float32, torch.bfloat16], cpu=[torch.float32], tiny=[torch.float32])
GATE, BINS, STRIDE = 12.0, 7, 16
LIP, AVERAGE_POOLINGS = 'lip2d', 'two average poolings'
HEAD_VOTE, VOTE = 'ps_roi_vote, layout of RFCNRoIHead', 'ps_roi_vote'
BIN_MEAN = dict(pool='ps_roi_pool, mean', align='ps_roi_align, mean')
TORCHVISION = 'torchvision ps_roi_align, mean'
LIP_SHAPES = dict(  # (B, C, H, W)
    cuda=[(32, 64, 112, 112), (32, 256, 56, 56)],
    cpu=[(2, 64, 112, 112), (2, 256, 56, 56)],
    tiny=[(1, 4, 8, 8)],
)
LIP_SIDES = dict(cuda=[224, 448, 672, 896, 1344], cpu=[224, 448, 896], tiny=[16, 32])
# Number of RoIs, classes and images, and (H, W) of the map.
VOTE_SIZES = dict(
    cuda=[(300, 21, 1, (38, 63)), (300, 81, 1, (38, 63)), (2000, 21, 2, (38, 63))]
    + [(2000, 81, 2, (50, 84)), (2000, 81, 8, (50, 84))],
    cpu=[(300, 21, 1, (38, 63)), (300, 81, 1, (38, 63)), (2000, 21, 2, (38, 63))],
    tiny=[(5, 3, 2, (9, 12))],
)
# Maximum times relative to another contender, on each device.
LIP_TARGETS = dict(
    cuda={'forward': 1 / 3.5, 'forward + backward': 1 / 4}, cpu={'forward + backward': 1 / 1.3}
)
VOTE_TARGETS = dict(cuda={TORCHVISION: 1 / 5, BIN_MEAN['align']: 1 / 5}, cpu={TORCHVISION: 1 / 1.5})


def cases(size: str, device: torch.device) -> Iterator[Case]:
    """Yield the cases of both operators; ``size`` is 'cuda', 'cpu' or 'tiny'."""
    for shape, *options in product(
        LIP_SHAPES[size], DTYPES[size], LAYOUTS, (False, True), (False, True)
    ):
        yield lip_case(shape, *options, device)
    for vote_size, mode in product(VOTE_SIZES[size], BIN_MEAN):
        yield vote_case(*vote_size, mode, device)
    batch, channels = LIP_SHAPES[size][0][:2]
    for side in LIP_SIDES[size]:
        shape = (batch, channels, side // 2, side // 2)
        case = lip_case(shape, torch.float32, 'NCHW', False, True, device)
        series = f'lip2d over the image size, {batch} x {channels} channels, forward + backward'
        case.group, case.title = 'growth', f'lip2d over the image size, {side}'
        case.point, case.targets = Point(series, 'side of the image (pixels)', side), ()
        yield case


def prepare(
    function: Callable, inputs: Sequence[Tensor], min_bytes: Callable, backward: bool = True
) -> Contender:
    """Compute output and gradients once, and return them with the call to measure.

    ``min_bytes`` maps inputs, output, gradients and ``backward`` to the number of bytes that
    any implementation must read and write.
    """
    differentiable = [x for x in inputs if x.requires_grad]
    out = function(*inputs)
    # Cosines of integers are nowhere 0: every part of the output has a gradient.
    cosines = torch.arange(out.numel(), device=out.device).double().cos()
    grad = torch.empty_like(out).detach().copy_(cosines.view(out.shape))
    gradients = torch.autograd.grad(out, differentiable, grad)

    def forward_backward() -> None:
        torch.autograd.grad(function(*inputs), differentiable, grad)

    call = forward_backward if backward else torch.no_grad()(lambda: function(*inputs))
    return Contender(call, [out.detach(), *gradients], min_bytes(inputs, out, gradients, backward))


def lip_case(
    shape: tuple, dtype: torch.dtype, layout: str, gated: bool, backward: bool, device: torch.device
) -> Case:
    """Return a case of 3 x 3 windows with stride 2; ``gated`` includes the layers' gate."""

    def build(function: Callable[..., Tensor]) -> Contender:
        x, logit = (torch.randn(*shape, device=device) for _ in range(2))
        inputs = [x, logit if gated else GATE * logit.sigmoid()]
        inputs = [y.to(dtype, memory_format=LAYOUTS[layout]).requires_grad_() for y in inputs]
        return prepare(function, inputs, lip_min_bytes, backward)

    function = partial(lip2d, gate=GATE) if gated else partial(lip2d, bounded=True)
    builders = {
        LIP: partial(build, function),
        AVERAGE_POOLINGS: partial(build, partial(average_poolings, gated=gated)),
    }
    if device.type == 'cuda':
        builders[f'{LIP}, PyTorch form'] = partial(build, triton_disabled()(function))
    passes = 'forward + backward' if backward else 'forward'
    targets = [Target(LIP, 'memory', 1.0, AVERAGE_POOLINGS)]
    if not gated and passes in LIP_TARGETS[device.type]:
        targets.append(Target(LIP, 'time', LIP_TARGETS[device.type][passes], AVERAGE_POOLINGS))
    if not gated and device.type == 'cuda':
        targets.append(Target(LIP, 'bandwidth', 0.75))
    title = f'{" x ".join(map(str, shape))}, {str(dtype).split(".")[1]}, {layout}, {passes}'
    return Case('lip2d', title + ', with gate' * gated, builders, targets)


def average_poolings(x: Tensor, logit: Tensor, gated: bool) -> Tensor:
    """Pool as the authors' code: two average poolings and a division."""
    weight = (GATE * logit.float().sigmoid() if gated else logit).exp()
    return (F.avg_pool2d(x * weight, 3, 2, 1) / F.avg_pool2d(weight, 3, 2, 1)).to(x.dtype)


def lip_min_bytes(inputs, out, gradients, backward: bool) -> int:
    """Count inputs and output once; in the backward pass again, plus the gradients."""
    forward = sum(x.nbytes for x in inputs) + out.nbytes
    return 2 * forward + sum(grad.nbytes for grad in gradients) if backward else forward


def vote_case(
    num_rois: int, num_classes: int, batch: int, map_size: tuple, mode: str, device: torch.device
) -> Case:
    """Return a case of votes of random RoIs, forward + backward."""

    def build(function: Callable[..., Tensor], head_layout: bool = False) -> Contender:
        maps = torch.randn(batch, num_classes * BINS**2, *map_size, device=device)
        rois = random_rois(num_rois, batch, map_size).to(device)
        if head_layout:  # shape (B, C, P*P, H, W), memory (B, H, W, P*P, C)
            maps = maps.unflatten(1, (-1, BINS**2)).permute(0, 3, 4, 2, 1)
            maps = maps.contiguous().permute(0, 4, 3, 1, 2)
        return prepare(function, [maps.requires_grad_(), rois], vote_min_bytes)

    vote = partial(ps_roi_vote, output_size=BINS, spatial_scale=1 / STRIDE, mode=mode)
    builders = {
        HEAD_VOTE: partial(build, vote, head_layout=True),
        VOTE: partial(build, vote),
        BIN_MEAN[mode]: partial(build, partial(bin_mean, mode)),
    }
    targets = [Target(name, 'memory', 1.0, BIN_MEAN[mode]) for name in (HEAD_VOTE, VOTE)]
    if mode == 'align':
        builders[TORCHVISION] = partial(build, torchvision_bin_mean)
        for other, limit in VOTE_TARGETS[device.type].items():
            targets += [Target(name, 'time', limit, other) for name in (HEAD_VOTE, VOTE)]
    if device.type == 'cuda':
        builders[f'{HEAD_VOTE}, PyTorch form'] = partial(build, triton_disabled()(vote), True)
    size = f'{batch} x {map_size[0]} x {map_size[1]}'
    title = f'{mode}, {num_rois} RoIs, {num_classes} classes, {size}, forward + backward'
    return Case('ps_roi_vote', title, builders, targets)


def random_rois(num_rois: int, batch: int, map_size: Sequence[int]) -> Tensor:
    """Return (K, 5) RoIs of all sizes inside of the images."""
    size = torch.tensor(map_size[::-1]) * STRIDE
    start = torch.rand(num_rois, 2) * (size - 2 * STRIDE)
    end = start + STRIDE + torch.rand(num_rois, 2) * (size - start - STRIDE)
    return torch.cat([torch.arange(num_rois)[:, None] % batch, start, end], dim=1)


def bin_mean(mode: str, maps: Tensor, rois: Tensor) -> Tensor:
    pool = ps_roi_align if mode == 'align' else ps_roi_pool
    return pool(maps, rois, BINS, 1 / STRIDE).mean((2, 3))


def torchvision_bin_mean(maps: Tensor, rois: Tensor) -> Tensor:
    from torchvision.ops import ps_roi_align

    return ps_roi_align(maps, rois, BINS, 1 / STRIDE, 2).mean((2, 3))


def vote_min_bytes(inputs, out, gradients, backward: bool) -> int:
    """Count RoIs and votes twice, the cells that an RoI reads, and the map's whole gradient.

    The cells that an RoI reads are those with a gradient.
    """
    maps, rois = inputs
    cells = int(gradients[0].count_nonzero()) * maps.element_size()
    return cells + 2 * (rois.nbytes + out.nbytes) + gradients[0].nbytes
