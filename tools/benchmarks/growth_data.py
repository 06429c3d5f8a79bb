"""Loading of data sets over their number of images.

Annotation files in COCO's format with made-up boxes; each number is measured
in a process of its own, which loads nothing else.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from contest import Setting
from sizes import Sizes

PROBE = Path(__file__).with_name('growth_data_probe.py')
BOXES, CLASSES, SIDE = 3, 80, 64
KINDS = {'PartialBoxDataset': 'partial', "mmdet's CocoDataset": 'mmdet'}
# Of what the probe tells: the title of the plot, and the unit.
QUANTITIES = dict(
    start=('start-up of a data set', 's'),
    index=('annotations of an image', 'µs'),
    sample=(f'a sample, with a {SIDE} x {SIDE} image read', 'µs'),
    state=('memory of the annotations, as each worker shares them', 'bytes an image'),
    resident=('growth of the process, after the start-up', 'bytes an image'),
    peak=('growth of the process, at its largest', 'bytes an image'),
)


@dataclass
class DataSeries:
    """What the loading of so many images takes."""

    points: Sequence[int]

    def run(self, setting: Setting) -> Iterator[dict]:
        curves = {key: {name: dict(points=[], notes=[]) for name in KINDS} for key in QUANTITIES}
        for count in self.points:
            with tempfile.TemporaryDirectory() as folder:
                write_annotations(Path(folder), count)
                for name, kind in KINDS.items():
                    _add(curves, name, count, _probe(kind, Path(folder)))
        for key, (title, unit) in QUANTITIES.items():
            yield dict(key=f'data-{key}', title=title, over='images', unit=unit, curves=curves[key])


def series(sizes: Sizes, device: torch.device) -> Iterator[DataSeries]:
    yield DataSeries(sizes.growth_images)


def _add(curves: dict, name: str, count: int, found: dict) -> None:
    """Add a point to each curve, or say why there is none."""
    for key in QUANTITIES:
        if 'failure' in found:
            curves[key][name]['notes'].append(f'at {count:,}: {found["failure"]}')
            continue
        low, median, high = found[key]
        curves[key][name]['points'].append(dict(x=count, median=median, quartiles=[low, high]))


def _probe(kind: str, folder: Path) -> dict:
    """What the probe found, or the last line that it wrote before it died."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', PROBE, kind, folder], capture_output=True, text=True
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return dict(failure=lines[-1] if lines else f'ended with status {done.returncode}')
    return json.loads(done.stdout.strip().splitlines()[-1])


def write_annotations(folder: Path, count: int) -> None:
    """Write annotations.json, with ``BOXES`` boxes an image."""
    rng = np.random.RandomState(0)
    with open(folder / 'annotations.json', 'w') as file:
        categories = [dict(id=i, name=f'class {i}') for i in range(CLASSES)]
        file.write(f'{{"categories": {json.dumps(categories)}, "images": [')
        for i in range(count):
            file.write(
                ',' * (i > 0)
                + json.dumps(dict(id=i, file_name=f'{i:012}.jpg', height=SIDE, width=SIDE))
            )
        file.write('], "annotations": [')
        for i in range(count):
            for j, box in enumerate(rng.randint(1, SIDE // 2, (BOXES, 4))):
                file.write(
                    ',' * (i + j > 0)
                    + json.dumps(
                        dict(
                            id=i * BOXES + j,
                            image_id=i,
                            bbox=box.tolist(),
                            area=int(box[2] * box[3]),
                            iscrowd=0,
                            category_id=int(rng.randint(CLASSES)),
                        )
                    )
                )
        file.write(']}')
