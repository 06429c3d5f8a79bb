"""R-FCN against Faster R-CNN, and with an image-level branch."""

from collections.abc import Iterator
from functools import partial
from typing import Callable

import torch
from contest import StepCase
from sizes import Sizes
from targets import Target, less_memory

OURS, BRANCH = 'R-FCN', 'R-FCN, GWAP branch'
C4, FPN = 'Faster R-CNN C4', 'Faster R-CNN FPN'
# Maps of two images: R-FCN's of 80 classes at 600 x 1000, and its features.
SCORES, FEATURES = (2, 80, 38, 63), (2, 1024, 38, 63)


def cases(sizes: Sizes, device: torch.device) -> Iterator[StepCase]:
    depth, size = sizes.detector
    work = f'ResNet-{depth}, {size[0]} x {size[1]}, {sizes.proposals} proposals'
    targets = [less_memory(OURS, C4)]
    if sizes.detector_least:
        targets.append(Target(C4, 'at least', sizes.detector_least, OURS))
    for step in ('training step', 'inference'):
        names = [OURS, C4, FPN]
        yield StepCase(
            f'{work}, {step}',
            {name: partial(make_step, name, step, sizes, device) for name in names},
            tuple(targets),
            sizes.slow_runs,
        )
    branch = [Target(BRANCH, 'at most', sizes.branch_most, OURS)] if sizes.branch_most else []
    yield StepCase(
        f'{work}, training step, and the weightings of two images alone',
        dict(
            {
                name: partial(make_step, name, 'training step', sizes, device)
                for name in (OURS, BRANCH)
            },
            **{
                'class_specific_gwap, 2 x 80 x 38 x 63': partial(class_specific, device),
                'class_agnostic_gwap, 2 x 1024 x 38 x 63': partial(class_agnostic, device),
            },
        ),
        tuple(branch),
    )


def make_step(name: str, step: str, sizes: Sizes, device: torch.device) -> Callable[[], None]:
    """Build a detector; returns its step."""
    import detectors

    depth, size = sizes.detector
    model = detectors.build(name, depth, sizes.proposals).to(device)
    make = detectors.inference if step == 'inference' else detectors.training_step
    return make(model, *detectors.make_sample(size, device))


def class_specific(device: torch.device) -> Callable[[], None]:
    """Forward and backward pass of the weighting."""
    from mmgwap.ops import class_specific_gwap

    scores = torch.randn(SCORES, device=device, requires_grad=True)
    gradient = torch.randn(SCORES[:2], device=device)
    return lambda: torch.autograd.grad(class_specific_gwap(scores)[0], scores, gradient)


def class_agnostic(device: torch.device) -> Callable[[], None]:
    """Forward and backward pass of the weighting."""
    from mmgwap.ops import class_agnostic_gwap

    features = torch.randn(FEATURES, device=device, requires_grad=True)
    attention = torch.randn(SCORES[0], 1, *SCORES[2:], device=device, requires_grad=True)
    gradient = torch.randn(FEATURES[:2], device=device)
    return lambda: torch.autograd.grad(
        class_agnostic_gwap(features, attention)[0], (features, attention), gradient
    )
