"""Time MaxBoxAcc against the direct loop over its thresholds.

One image a turn, V1 and V2 together, on one core.  The maps are bilinearly
upsampled noise of so many cells a side, smooth to rough, a uniform one and
one to the power of 4, whose peaks stand alone as those of a trained model.
Their results are compared before the clock starts.
"""

import quiet  # noqa: F401,I001  before torch

import argparse
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Callable
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from contest import Setting, StepCase
from equal import WrongResult
from machine import surroundings
from sizes import Sizes
from table import case_lines, write_json

from mmgwap.evaluation.functional import MaxBoxAcc, box_iou

SIDE, INTERVAL = 224, 0.001
IOUS = (0.3, 0.5, 0.7)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--cells', type=int, nargs='+', default=[7, 14, 28], help='default: 7 14 28'
    )
    parser.add_argument(
        '--images', type=int, default=8, help='of each kind, in turns (default: %(default)s)'
    )
    parser.add_argument('--interval', type=float, default=INTERVAL, help='default: %(default)s')
    parser.add_argument('--runs', type=int, default=24, help='default: %(default)s')
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/bench/wsol.json'), help='default: %(default)s'
    )
    return parser.parse_args()


def make_images(cells: int, power: int, count: int) -> list:
    """Maps, and a box of 0.3 to 0.9 of each side."""
    rng = np.random.RandomState(cells)
    images = []
    for _ in range(count):
        noise = rng.rand(cells, cells).astype(np.float32) ** power
        score_map = cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        size = (rng.uniform(0.3, 0.9, 2) * SIDE).astype(int)
        start = (rng.rand(2) * (SIDE - size)).astype(int)
        images.append((score_map, np.hstack([start, start + size - 1])[None]))
    return images


class DirectLoop:
    """Every threshold on the whole map; IoUs of an image at once."""

    def __init__(self, interval: float) -> None:
        self.thresholds = np.arange(0, 1, interval)
        self.hits = np.zeros(len(self.thresholds), int)
        self.hits_v2 = np.zeros((len(IOUS), len(self.thresholds)), int)
        self.num_images = 0

    def add(self, score_map: np.ndarray, truth: np.ndarray) -> None:
        score_map = score_map - score_map.min()
        image = (score_map / score_map.max() * 255).astype(np.uint8)
        boxes, starts, largest, top = [], [], [], int(image.max())
        for threshold in self.thresholds:
            mask = cv2.threshold(image, int(threshold * top), 255, cv2.THRESH_BINARY)[1]
            contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]
            areas = [cv2.contourArea(one) for one in contours]
            starts.append(len(boxes))
            largest.append(len(boxes) + areas.index(max(areas)))
            boxes += [cv2.boundingRect(one) for one in contours]
        boxes = np.array(boxes)
        boxes[:, 2:] = np.minimum(boxes[:, :2] + boxes[:, 2:], SIDE - 1)
        ious = box_iou(boxes, truth).max(axis=1)
        self.hits += ious[largest] >= 0.5
        self.hits_v2 += np.maximum.reduceat(ious, starts) >= np.array(IOUS)[:, None]
        self.num_images += 1

    def compute(self) -> tuple:
        return tuple(100 * hits.max() / self.num_images for hits in (self.hits, *self.hits_v2))


def check_equal(images: list, interval: float) -> None:
    """Refuse to time contenders that do not compute the same.

    Raises:
        WrongResult: if they do not.
    """
    direct, own = DirectLoop(interval), MaxBoxAcc(interval, IOUS)
    for image in images:
        direct.add(*image)
        own.add(*image)
    found = own.compute()
    found = [found['max_box_acc'], *(found[f'max_box_acc_v2_{round(100 * iou)}'] for iou in IOUS)]
    if not np.allclose(found, direct.compute(), rtol=1e-12, atol=0):
        raise WrongResult(f'MaxBoxAcc counts {found} against the direct loop: {direct.compute()}')


def counting(accuracy, images: list) -> Callable[[], None]:
    """A function that counts the next image."""
    turns = cycle(images)
    return lambda: accuracy.add(*next(turns))


def checked(images: list, interval: float) -> Callable[[], None]:
    check_equal(images, interval)
    return counting(MaxBoxAcc(interval, IOUS), images)


def cases(sizes: Sizes, device: torch.device) -> Iterator[StepCase]:
    if device.type == 'cpu':  # a GPU has no part in it
        yield from make_cases(sizes.wsol_cells, sizes.wsol_images, INTERVAL)


def make_cases(all_cells: Sequence[int], count: int, interval: float) -> Iterator[StepCase]:
    cv2.setNumThreads(1)
    for cells in all_cells:
        for power in (1, 4):
            images = make_images(cells, power, count)
            title = f'{cells} x {cells} cells' + ', peaked' * (power > 1)
            yield StepCase(
                f'MaxBoxAcc, {title}, one image of {SIDE} x {SIDE}',
                {
                    'MaxBoxAcc': partial(checked, images, interval),
                    'direct loop': partial(counting, DirectLoop(interval), images),
                },
                weighed=False,
            )


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    device = torch.device('cpu')
    results = []
    for case in make_cases(args.cells, args.images, args.interval):
        results.append(case.run(Setting(device, args.runs)))
        print('\n'.join(case_lines(results[-1])), end='\n\n', flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(dict(surroundings=surroundings(device), results=dict(wsol=results)), args.out)
    print(args.out)


if __name__ == '__main__':
    main()
