"""RoI heads over RoIs, classes and image size.

R-FCN's and Faster R-CNN's, from the backbone's features to scores and deltas of
all RoIs, without gradients.  C4 runs res5 on each RoI, R-FCN once on the image,
so R-FCN's is shown without and with it.
"""

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Callable, NamedTuple

import detectors
import torch
from contest import Call
from growth_series import TimeSeries
from sizes import Sizes
from torch import Tensor, nn
from vote_cases import STRIDE, Work, make_rois

VOTE, HEAD = 'R-FCN: vote', 'R-FCN: head'
WITH_RES5 = 'R-FCN: res5 of the image, and head'
C4, FPN = 'Faster R-CNN C4: res5 on RoIs', 'Faster R-CNN FPN: two layers'


class Place(NamedTuple):
    """What one point is measured at; ``side`` is the short one, in pixels."""

    rois: int
    classes: int
    side: int

    def map_size(self, stride: int = STRIDE) -> tuple[int, int]:
        """Of a map of an image of 3:5, (H, W)."""
        return -(-self.side // stride), -(-self.side * 5 // 3 // stride)


def series(sizes: Sizes, device: torch.device) -> Iterator[TimeSeries]:
    rois, classes, side = sizes.growth_base
    base = Place(rois, classes, side)
    image = f'image of {side} x {side * 5 // 3}'
    for field, over, points, power, title in (
        ('rois', 'RoIs', sizes.growth_rois, 1, f'{classes} classes, {image}'),
        ('classes', 'classes', sizes.growth_classes, 1, f'{rois} RoIs, {image}'),
        (
            'side',
            'short side of the image (pixels)',
            sizes.growth_sides,
            2,
            f'{rois} RoIs, {classes} classes',
        ),
    ):
        curves = {name: partial(_at, make, base, field, device) for name, make in CURVES.items()}
        # Faster R-CNN's heads do most of their work for each RoI.
        yield TimeSeries(
            f'heads-{field}',
            f'RoI heads, {title}',
            over,
            points,
            curves,
            power,
            () if field == 'rois' else (C4, FPN),
            sizes.seconds_a_point,
        )


def _at(make: Callable, base: Place, field: str, device: torch.device, value: int) -> Call:
    return make(base._replace(**{field: value}), device)


def _maps_of_head(place: Place, device: torch.device) -> tuple:
    head = _roi_head('R-FCN', place.classes, device)
    features = torch.randn(1, 2048, *place.map_size(), device=device)
    return head, features


def _vote(place: Place, device: torch.device) -> Call:
    head, features = _maps_of_head(place, device)
    rois = _rois(place, device)
    with torch.no_grad():
        maps = head.bbox_head(features)
    return _quietly(lambda: head._bbox_forward(maps, rois))


def _head(place: Place, device: torch.device) -> Call:
    head, features = _maps_of_head(place, device)
    rois = _rois(place, device)
    return _quietly(lambda: head._bbox_forward(head.bbox_head(features), rois))


def _res5_and_head(place: Place, device: torch.device) -> Call:
    head, _ = _maps_of_head(place, device)
    res5 = _res5(device)
    rois = _rois(place, device)
    features = torch.randn(1, 1024, *place.map_size(), device=device)
    return _quietly(lambda: head._bbox_forward(head.bbox_head(res5(features)), rois))


def _c4(place: Place, device: torch.device) -> Call:
    head = _roi_head('Faster R-CNN C4', place.classes, device)
    rois = _rois(place, device)
    features = torch.randn(1, 1024, *place.map_size(), device=device)
    return _quietly(lambda: head._bbox_forward((features,), rois))


def _fpn(place: Place, device: torch.device) -> Call:
    head = _roi_head('Faster R-CNN FPN', place.classes, device)
    rois = _rois(place, device)
    levels = [
        torch.randn(1, 256, *place.map_size(stride), device=device) for stride in (4, 8, 16, 32)
    ]
    return _quietly(lambda: head._bbox_forward(levels, rois))


CURVES: dict[str, Callable[[Place, torch.device], Call]] = {
    VOTE: _vote,
    HEAD: _head,
    WITH_RES5: _res5_and_head,
    C4: _c4,
    FPN: _fpn,
}


def _quietly(function: Callable) -> Call:
    """Without gradients."""

    @torch.no_grad()
    def run() -> None:
        function()

    return run


def _rois(place: Place, device: torch.device) -> Tensor:
    return make_rois(Work(place.rois, place.classes, 1, place.map_size())).to(device)


@lru_cache(maxsize=3)
def _roi_head(name: str, classes: int, device: torch.device) -> nn.Module:
    return detectors.build_roi_head(name, classes).to(device).eval()


@lru_cache(maxsize=1)
def _res5(device: torch.device) -> nn.Module:
    return detectors.build_res5().to(device).eval()
