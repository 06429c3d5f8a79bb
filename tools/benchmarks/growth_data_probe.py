"""Load a data set, and print what that takes as JSON: low, median, high."""

import argparse
import gc
import json
import statistics
import time
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
from growth_data import CLASSES, SIDE
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.logging import MMLogger

SAMPLES = 2000


class SamePicture:
    """Lets every sample read the one picture that there is."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __call__(self, results: dict) -> dict:
        return dict(results, img_path=self.path)


def make_config(kind: str, folder: Path) -> dict:
    picture = folder / 'picture.jpg'
    cv2.imwrite(str(picture), np.zeros((SIDE, SIDE, 3), np.uint8))
    inner = dict(
        type='CocoDataset',
        ann_file=str(folder / 'annotations.json'),
        data_prefix=dict(img=str(folder)),
        metainfo=dict(classes=tuple(f'class {i}' for i in range(CLASSES))),
        pipeline=[
            SamePicture(picture),
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'ori_shape', 'img_shape')),
        ],
    )
    if kind == 'mmdet':
        return inner
    inner['type'] = 'mmgwap.CheckedCocoDataset'
    return dict(type='mmgwap.PartialBoxDataset', percent=10, dataset=inner)


def memory_bytes(field: str) -> int:
    """Of this process: VmRSS, at this moment; VmHWM, the most so far."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(f'{field}:'):
            return int(line.split()[1]) * 1024
    raise OSError(f'/proc/self/status has no {field}')


def microseconds(function: Callable[[int], object], count: int) -> list[float]:
    """Quartiles over random places of so many."""
    times = []
    for place in np.random.RandomState(0).randint(count, size=SAMPLES):
        start = time.perf_counter()
        function(int(place))
        times.append((time.perf_counter() - start) * 1e6)
    return statistics.quantiles(times, n=4, method='inclusive')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('kind', choices=('partial', 'mmdet'))
    parser.add_argument('folder', type=Path)
    args = parser.parse_args()
    register_all_modules()
    MMLogger.get_current_instance().setLevel('ERROR')
    config = make_config(args.kind, args.folder)
    DATASETS.get('mmgwap.PartialBoxDataset')  # its imports are not start-up
    Path('/proc/self/clear_refs').write_text('5')  # VmHWM counts from here
    before = memory_bytes('VmRSS')
    start = time.perf_counter()
    dataset = DATASETS.build(config)
    seconds = time.perf_counter() - start
    peak = memory_bytes('VmHWM') - before
    gc.collect()
    resident, count = memory_bytes('VmRSS') - before, len(dataset)
    leaf = getattr(dataset, 'dataset', dataset)
    state = leaf.data_bytes.nbytes + leaf.data_address.nbytes
    print(
        json.dumps(
            dict(
                images=count,
                start=[seconds] * 3,
                state=[state / count] * 3,
                resident=[resident / count] * 3,
                peak=[peak / count] * 3,
                index=microseconds(dataset.get_data_info, count),
                sample=microseconds(dataset.__getitem__, count),
            )
        )
    )


if __name__ == '__main__':
    main()
