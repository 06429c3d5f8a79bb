"""``lip2d`` against the two average poolings that the authors wrote."""
from typing import Iterator, List, Sequence, Tuple

import torch
import torch.nn.functional as F
from limit import lip_traffic
from operator_case import Contender, OperatorCase
from sizes import Sizes
from targets import LIMIT, Target, less_memory
from torch import Tensor

OURS, POOLINGS = 'lip2d', 'two average poolings'
LAYOUTS = {'NCHW': torch.contiguous_format,
           'channels-last': torch.channels_last}


def average_poolings(x: Tensor, logit: Tensor) -> Tensor:
    weight = logit.exp()
    return (F.avg_pool2d(x * weight, 3, 2, 1)
            / F.avg_pool2d(weight, 3, 2, 1)).to(x.dtype)


def contenders(device: torch.device) -> dict:
    from mmgwap.ops import lip2d

    def bounded(x: Tensor, logit: Tensor) -> Tensor:
        return lip2d(x, logit, bounded=True)  # as the layers call it

    found = {OURS: Contender(bounded), POOLINGS: Contender(average_poolings)}
    if device.type == 'cuda':
        from mmgwap.ops.kernels import kernels_off

        def without(x: Tensor, logit: Tensor) -> Tensor:
            with kernels_off():
                return bounded(x, logit)

        found['lip2d, MMGWAP_KERNELS=off'] = Contender(without)
    return found


def cases(sizes: Sizes, device: torch.device) -> Iterator[OperatorCase]:
    for shape in sizes.lip_maps:
        for dtypes in sizes.lip_dtypes:
            for layout in LAYOUTS:
                for backward in (False, True):
                    yield case(shape, dtypes, layout, backward, device,
                               _targets(sizes, backward))


def case(shape: Sequence[int], dtypes: Sequence[torch.dtype], layout: str,
         backward: bool, device: torch.device,
         targets: Tuple[Target, ...] = ()) -> OperatorCase:
    """Windows of 3 x 3, two cells apart, of maps (B, C, H, W)."""
    def make_inputs() -> List[Tensor]:
        x, logit = (torch.randn(shape, device=device) for _ in range(2))
        return [one.to(dtype, memory_format=LAYOUTS[layout]) for one, dtype
                in zip((x, 12 * logit.sigmoid()), dtypes)]

    size = ' x '.join(map(str, shape))
    passes = 'forward + backward' if backward else 'forward'
    return OperatorCase(
        f'{size}, {_names(dtypes)}, {layout}, {passes}', contenders(device),
        make_inputs, differentiated=2, backward=backward, targets=targets,
        traffic=lip_traffic)


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
