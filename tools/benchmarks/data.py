"""Cases on one CPU core: data sets over their number of images, and MaxBoxAcc."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import lru_cache, partial
from io import StringIO
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import torch
from case import Case, Contender, Point
from mmdet.registry import DATASETS

from mmgwap.evaluation.functional import MaxBoxAcc, box_iou

NUM_IMAGES = dict(cpu=[1000, 3000, 10_000], tiny=[500])
BOXES_PER_IMAGE, NUM_CLASSES, IMAGE_SIDE = 3, 80, 64
MAP_SIDE, INTERVAL, IOUS = 224, 0.001, (0.3, 0.5, 0.7)
METRICS = ('max_box_acc', 'max_box_acc_v2_30', 'max_box_acc_v2_50', 'max_box_acc_v2_70')
MAP_CELLS = dict(cpu=[7, 14, 28], tiny=[7])  # per side of the noise that is upsampled


def cases(size: str, device: torch.device) -> Iterator[Case]:
    """Yield the cases; ``size`` is 'cpu' or 'tiny'. On a GPU there are none."""
    if device.type == 'cpu':
        for cells in MAP_CELLS[size]:
            yield max_box_acc_case(cells, power=1)
            yield max_box_acc_case(cells, power=4)
        for count in NUM_IMAGES[size]:
            yield dataset_case('start-up of a data set', count)
            yield dataset_case(f'sample with an image of {IMAGE_SIDE} x {IMAGE_SIDE}', count)


def dataset_case(work: str, count: int) -> Case:
    """Return a growth point: start-up of a data set, or reading of random samples."""

    def build(kind: str) -> Contender:
        start_up = partial(build_dataset, dataset_config(kind, Path(make_annotations(count).name)))
        if work.startswith('start-up'):
            return Contender(start_up)
        dataset = start_up()
        indices = cycle(np.random.RandomState(0).randint(count, size=2000).tolist())
        return Contender(lambda: dataset[next(indices)])

    builders = {kind: partial(build, kind) for kind in ("mmdet's CocoDataset", 'PartialBoxDataset')}
    point = Point(work, 'images', count)
    return Case('growth', f'{work}, {count} images', builders, point=point, memory='python')


def build_dataset(config: dict):
    with redirect_stdout(StringIO()):  # pycocotools prints
        return DATASETS.build(config)


def dataset_config(kind: str, folder: Path) -> dict:
    """Return the config of mmdet's or of our data set on the folder's annotations."""
    image = str(folder / 'image.jpg')
    is_ours = kind == 'PartialBoxDataset'
    config = dict(
        type='mmgwap.CheckedCocoDataset' if is_ours else 'CocoDataset',
        ann_file=str(folder / 'annotations.json'),
        data_prefix=dict(img=str(folder)),
        metainfo=dict(classes=tuple(f'class {i}' for i in range(NUM_CLASSES))),
        pipeline=[
            lambda results: dict(results, img_path=image),
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=()),
        ],
    )
    return dict(type='mmgwap.PartialBoxDataset', percent=10, dataset=config) if is_ours else config


@lru_cache
def make_annotations(count: int) -> tempfile.TemporaryDirectory:
    """Write annotations of ``count`` images in COCO's format, and one image for all."""
    folder, side, rng = tempfile.TemporaryDirectory(), IMAGE_SIDE, np.random.RandomState(0)
    boxes = rng.randint(1, side // 2, (count * BOXES_PER_IMAGE, 4)).tolist()
    base = dict(area=1, iscrowd=0)
    content = dict(
        categories=[dict(id=i, name=f'class {i}') for i in range(NUM_CLASSES)],
        images=[dict(id=i, file_name=f'{i}.jpg', height=side, width=side) for i in range(count)],
        annotations=[
            dict(base, id=i, image_id=i // BOXES_PER_IMAGE, category_id=i % NUM_CLASSES, bbox=box)
            for i, box in enumerate(boxes)
        ],
    )
    Path(folder.name, 'annotations.json').write_text(json.dumps(content))
    cv2.imwrite(f'{folder.name}/image.jpg', np.zeros((side, side, 3), np.uint8))
    return folder


def max_box_acc_case(cells: int, power: int) -> Case:
    """Return a case of MaxBoxAcc against a loop over its thresholds, one map at a time.

    With power 4 the peaks of the maps stand alone, as in maps of trained models.
    """

    def build(kind: type) -> Contender:
        cv2.setNumThreads(1)
        maps, accuracy = make_maps(cells, power), kind(INTERVAL, IOUS)
        for score_map, box in maps:
            accuracy.add(score_map, box)
        found, turns = accuracy.compute(), cycle(maps)
        values = torch.tensor([found[key] for key in METRICS], dtype=torch.float64)
        return Contender(lambda: accuracy.add(*next(turns)), [values])

    builders = {kind.__name__: partial(build, kind) for kind in (MaxBoxAcc, LoopOverThresholds)}
    title = f'{MAP_SIDE} x {MAP_SIDE}, {cells} x {cells} cells' + ', peaked' * (power > 1)
    return Case('MaxBoxAcc', title, builders, memory='python')


def make_maps(cells: int, power: int, count: int = 4) -> list:
    """Return upsampled noise to the given power, each map with a box of 0.3 to 0.9 of its side."""
    rng, maps = np.random.RandomState(cells), []
    for _ in range(count):
        noise = rng.rand(cells, cells).astype(np.float32) ** power
        size = (rng.uniform(0.3, 0.9, 2) * MAP_SIDE).astype(int)
        start = (rng.rand(2) * (MAP_SIDE - size)).astype(int)
        box = np.hstack([start, start + size - 1])[None]
        maps.append((cv2.resize(noise, (MAP_SIDE, MAP_SIDE)), box))
    return maps


class LoopOverThresholds:
    """MaxBoxAcc as a loop: contours of the whole map at each threshold."""

    def __init__(self, interval: float, ious: tuple) -> None:
        self.thresholds, self.ious, self.num_images = np.arange(0, 1, interval), ious, 0
        self.hits = np.zeros((1 + len(ious), len(self.thresholds)), int)

    def add(self, score_map: np.ndarray, box: np.ndarray) -> None:
        score_map = score_map - score_map.min()
        image = (score_map / score_map.max() * 255).astype(np.uint8)
        boxes, starts, largest, maximum = [], [], [], int(image.max())
        for threshold in self.thresholds:
            mask = cv2.threshold(image, int(threshold * maximum), 255, cv2.THRESH_BINARY)[1]
            contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]
            areas = [cv2.contourArea(contour) for contour in contours]
            starts.append(len(boxes))
            largest.append(len(boxes) + areas.index(max(areas)))
            boxes += [cv2.boundingRect(contour) for contour in contours]
        boxes = np.array(boxes)
        boxes[:, 2:] = np.minimum(boxes[:, :2] + boxes[:, 2:], MAP_SIDE - 1)
        ious = box_iou(boxes, box).max(axis=1)
        self.hits[0] += ious[largest] >= 0.5
        self.hits[1:] += np.maximum.reduceat(ious, starts) >= np.array(self.ious)[:, None]
        self.num_images += 1

    def compute(self) -> dict:
        return dict(zip(METRICS, 100 * self.hits.max(axis=1) / self.num_images))
