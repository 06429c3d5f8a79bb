"""What is measured at which size: on a GPU, on a CPU, and to try it out."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple, Optional

import torch

FP32 = torch.float32, torch.float32
BF16 = torch.bfloat16, torch.bfloat16
MIXED = torch.bfloat16, torch.float32  # as SoftGate gives logits


class Sizes(NamedTuple):
    """Sizes, and the targets that hold at them.

    Attributes:
        runs: stretches of each contender.
        slow_runs: of steps of seconds.
        lip_maps: (B, C, H, W).
        lip_dtypes: of x and logit.
        lip_gated_dtypes: the same, where the gate is part of the work.
        lip_targets: times as fast, forward and forward + backward.
        lip_share: of the limit.
        votes: RoIs, classes, batch, (H, W).
        vote_torchvision, vote_bins: times as fast as these.
        classifier: depth, batch and side of the images.
        classifier_dtypes: bfloat16 by autocast.
        classifier_most: times ResNet's time.
        detector: depth of the ResNet, and (H, W) of the image.
        proposals: of an image, all of them trained on.
        detector_least: times as fast as Faster R-CNN C4.
        branch_most: times the time without the image-level branch.
        wsol_cells: a side of the noise that maps are made of.
        wsol_images: maps of each kind.
        growth_base: RoIs, classes and short side, where they do not grow.
        growth_runs: stretches a point.
        growth_*: points of the plots.
        seconds_a_point: what would take longer is left out, and said to be.
    """

    runs: int
    slow_runs: int
    lip_maps: Sequence[tuple[int, ...]]
    lip_dtypes: Sequence[tuple[torch.dtype, torch.dtype]]
    lip_gated_dtypes: Sequence[tuple[torch.dtype, torch.dtype]]
    lip_targets: tuple[Optional[float], Optional[float]]
    lip_share: Optional[float]
    votes: Sequence[tuple]
    vote_torchvision: Optional[float]
    vote_bins: Optional[float]
    classifier: tuple[int, int, int]
    classifier_dtypes: Sequence[torch.dtype]
    classifier_most: Optional[float]
    detector: tuple[int, tuple[int, int]]
    proposals: int
    detector_least: Optional[float]
    branch_most: Optional[float]
    wsol_cells: Sequence[int]
    wsol_images: int
    growth_base: tuple[int, int, int]
    growth_runs: int
    growth_rois: Sequence[int]
    growth_classes: Sequence[int]
    growth_sides: Sequence[int]
    growth_images: Sequence[int]
    seconds_a_point: float


GPU = Sizes(
    runs=20,
    slow_runs=20,
    lip_maps=[(32, 64, 112, 112), (32, 256, 56, 56)],
    lip_dtypes=[FP32, BF16, MIXED],
    lip_gated_dtypes=[FP32, BF16],
    lip_targets=(3.5, 4.0),
    lip_share=0.75,
    votes=[
        (rois, classes, batch, size)
        for size, batch, classes, rois in product(
            [(38, 63), (50, 84)], [1, 2, 8], [21, 81], [300, 2000]
        )
    ],
    vote_torchvision=5.0,
    vote_bins=5.0,
    classifier=(50, 32, 224),
    classifier_dtypes=[torch.float32, torch.bfloat16],
    classifier_most=1.15,
    detector=(101, (600, 1000)),
    proposals=300,
    detector_least=2.5,
    branch_most=1.03,
    wsol_cells=[],
    wsol_images=0,
    growth_base=(300, 80, 600),
    growth_runs=10,
    growth_rois=[100, 300, 1000, 3000, 10_000],
    growth_classes=[20, 80, 300, 1000],
    growth_sides=[224, 448, 672, 896, 1344],
    growth_images=[1000, 10_000, 100_000, 1_000_000],
    seconds_a_point=30.0,
)
CPU = Sizes(
    runs=7,
    slow_runs=3,
    lip_maps=[(2, 64, 112, 112), (2, 256, 56, 56)],
    lip_dtypes=[FP32],
    lip_gated_dtypes=[FP32],
    lip_targets=(None, 1.3),
    lip_share=None,
    votes=[(300, 21, 1, (38, 63)), (300, 81, 1, (38, 63)), (2000, 21, 2, (38, 63))],
    vote_torchvision=1.5,
    vote_bins=None,
    classifier=(50, 2, 224),
    classifier_dtypes=[torch.float32],
    classifier_most=None,
    detector=(50, (320, 512)),
    proposals=100,
    detector_least=None,
    branch_most=None,
    wsol_cells=[7, 14, 28],
    wsol_images=4,
    growth_base=(100, 80, 300),
    growth_runs=2,
    growth_rois=[100, 300, 1000, 10_000],
    growth_classes=[20, 200, 1000],
    growth_sides=[224, 448, 896],
    growth_images=[1000, 10_000],
    seconds_a_point=6.0,
)
TOY = Sizes(
    runs=2,
    slow_runs=2,
    lip_maps=[(1, 4, 8, 8)],
    lip_dtypes=[FP32, BF16, MIXED],
    lip_gated_dtypes=[FP32, BF16],
    lip_targets=(3.5, 4.0),
    lip_share=0.75,
    votes=[(5, 3, 2, (9, 12))],
    vote_torchvision=1.5,
    vote_bins=1e9,
    classifier=(50, 1, 32),
    classifier_dtypes=[torch.float32],
    classifier_most=1.15,
    detector=(18, (64, 96)),
    proposals=8,
    detector_least=2.5,
    branch_most=1.03,
    wsol_cells=[7],
    wsol_images=1,
    growth_base=(3, 4, 64),
    growth_runs=2,
    growth_rois=[2, 4],
    growth_classes=[3],
    growth_sides=[64],
    growth_images=[800],
    seconds_a_point=4.0,
)


def sizes_for(device: torch.device, toy: bool, full: bool) -> Sizes:
    """Those of a device; ``full`` takes a GPU's points of growth anywhere."""
    if toy:
        return TOY
    if device.type == 'cuda':
        return GPU
    return (
        CPU._replace(
            growth_rois=GPU.growth_rois,
            growth_classes=GPU.growth_classes,
            growth_sides=GPU.growth_sides,
            growth_images=GPU.growth_images,
            seconds_a_point=GPU.seconds_a_point,
        )
        if full
        else CPU
    )
