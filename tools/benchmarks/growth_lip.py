"""LIP over the size of images."""

from collections.abc import Iterator
from functools import partial
from typing import Union

import classifier_cases
import lip_cases
import torch
from growth_series import CaseSeries, TimeSeries
from sizes import FP32, Sizes


def series(sizes: Sizes, device: torch.device) -> Iterator[Union[TimeSeries, CaseSeries]]:
    depth, batch, _ = sizes.classifier
    images = 'side of the image (pixels)'
    yield CaseSeries(
        'lip',
        f'LIP of {batch} x 64 x side/2 x side/2, forward + backward',
        images,
        {
            side: lip_cases.case((batch, 64, side // 2, side // 2), FP32, 'NCHW', True, device)
            for side in sizes.growth_sides
        },
    )
    yield TimeSeries(
        'lip-resnet',
        f'inference, {batch} x 3 x side x side',
        images,
        sizes.growth_sides,
        {
            name.format(depth): partial(_at, kind, depth, batch, device)
            for name, kind in classifier_cases.BACKBONES.items()
        },
        power=2,
        seconds=sizes.seconds_a_point,
    )


def _at(kind: str, depth: int, batch: int, device: torch.device, side: int):
    return classifier_cases.inference(kind, depth, batch, side, device)
