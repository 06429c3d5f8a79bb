"""``lip2d`` against the two average poolings that the authors wrote."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from limit import lip_traffic
from operator_case import Contender, OperatorCase
from sizes import Sizes
from targets import LIMIT, Target, less_memory
from torch import Tensor

OURS, POOLINGS = 'lip2d', 'two average poolings'
GATE = 12.0
LAYOUTS = {'NCHW': torch.contiguous_format, 'channels-last': torch.channels_last}


def average_poolings(x: Tensor, logit: Tensor) -> Tensor:
    weight = logit.exp()
    return (F.avg_pool2d(x * weight, 3, 2, 1) / F.avg_pool2d(weight, 3, 2, 1)).to(x.dtype)


def gated_average_poolings(x: Tensor, logit: Tensor) -> Tensor:
    return average_poolings(x, GATE * logit.float().sigmoid())


def contenders(device: torch.device, gated: bool) -> dict[str, Contender]:
    """``gated``: the gate belongs to the work, as in the layers."""
    from mmgwap.ops import lip2d

    options = dict(gate=GATE) if gated else dict(bounded=True)
    ours = partial(lip2d, **options)
    found = {
        OURS: Contender(ours),
        POOLINGS: Contender(gated_average_poolings if gated else average_poolings),
    }
    if device.type == 'cuda':
        from mmgwap.ops.triton import triton_disabled

        def without(x: Tensor, logit: Tensor) -> Tensor:
            with triton_disabled():
                return ours(x, logit)

        found['lip2d, MMGWAP_KERNELS=off'] = Contender(without)
    return found


def cases(sizes: Sizes, device: torch.device) -> Iterator[OperatorCase]:
    for shape in sizes.lip_maps:
        for dtypes in sizes.lip_dtypes:
            for layout in LAYOUTS:
                for backward in (False, True):
                    yield case(shape, dtypes, layout, backward, device, _targets(sizes, backward))
        for dtypes in sizes.lip_gated_dtypes:
            for layout in LAYOUTS:
                for backward in (False, True):
                    yield case(
                        shape,
                        dtypes,
                        layout,
                        backward,
                        device,
                        (less_memory(OURS, POOLINGS),),
                        gated=True,
                    )


def case(
    shape: Sequence[int],
    dtypes: Sequence[torch.dtype],
    layout: str,
    backward: bool,
    device: torch.device,
    targets: tuple[Target, ...] = (),
    gated: bool = False,
) -> OperatorCase:
    """Windows of 3 x 3, two cells apart, of maps (B, C, H, W)."""

    def make_inputs() -> list[Tensor]:
        x, logit = (torch.randn(shape, device=device) for _ in range(2))
        logit = logit if gated else GATE * logit.sigmoid()
        return [
            one.to(dtype, memory_format=LAYOUTS[layout]) for one, dtype in zip((x, logit), dtypes)
        ]

    size = ' x '.join(map(str, shape))
    passes = 'forward + backward' if backward else 'forward'
    work = f'{size}, {_names(dtypes)}, {layout}, {passes}'
    return OperatorCase(
        work + ', gate and all' * gated,
        contenders(device, gated),
        make_inputs,
        differentiated=2,
        backward=backward,
        targets=targets,
        traffic=lip_traffic,
    )


def _names(dtypes: Sequence[torch.dtype]) -> str:
    x, logit = (str(one).replace('torch.', '') for one in dtypes)
    return x if x == logit else f'x {x}, logit {logit}'


def _targets(sizes: Sizes, backward: bool) -> tuple:
    found = [less_memory(OURS, POOLINGS)]
    least = sizes.lip_targets[backward]
    if least:
        found.append(Target(POOLINGS, 'at least', least, OURS))
    if sizes.lip_share:
        found.append(Target(OURS, 'at least', sizes.lip_share, None, LIMIT))
    return tuple(found)
