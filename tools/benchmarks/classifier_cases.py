"""LIP-ResNet against ResNet: what pooling by importance costs a network."""

from collections.abc import Iterator
from functools import partial
from typing import Callable

import torch
from contest import StepCase
from sizes import Sizes
from targets import Target

LIP, PLAIN = 'LIP-ResNet-{}', 'ResNet-{}'  # of a depth
BACKBONES = {PLAIN: 'mmdet.ResNet', LIP: 'mmgwap.LIPResNet'}
LAYOUTS = {'NCHW': torch.contiguous_format, 'channels-last': torch.channels_last}


def cases(sizes: Sizes, device: torch.device) -> Iterator[StepCase]:
    depth, batch, side = sizes.classifier
    for dtype in sizes.classifier_dtypes:
        for layout, memory_format in LAYOUTS.items():
            builders = {
                name.format(depth): partial(
                    inference, kind, depth, batch, side, device, dtype, memory_format
                )
                for name, kind in BACKBONES.items()
            }
            kind = (
                'float32' if dtype == torch.float32 else f'autocast to {str(dtype).split(".")[1]}'
            )
            targets = (
                [Target(LIP.format(depth), 'at most', sizes.classifier_most, PLAIN.format(depth))]
                if sizes.classifier_most
                else []
            )
            yield StepCase(
                f'backbone, inference, {batch} x 3 x {side} x {side}, {kind}, {layout}',
                builders,
                tuple(targets),
            )


def inference(
    kind: str,
    depth: int,
    batch: int,
    side: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Callable[[], None]:
    """Build a backbone; returns its forward pass, on images of noise."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    model = MODELS.build(dict(type=kind, depth=depth)).to(device, memory_format=memory_format)
    model.eval()  # mmdet's ResNet returns nothing here
    images = torch.randn(batch, 3, side, side, device=device).to(memory_format=memory_format)

    @torch.no_grad()
    def run() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            model(images)

    return run
