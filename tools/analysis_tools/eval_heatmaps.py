"""Measure score maps in a folder as the WSOL evaluation does.

For each IMAGE of METADATA/image_ids.txt the folder has IMAGE.npy, (H, W), with
the extension of the image before it (cat/1.jpg.npy) or without (cat/1.npy).
Prints MaxBoxAcc V1 and V2 if METADATA has boxes, and PxAP if it has masks.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
from terminaltables import AsciiTable
from tqdm import tqdm

from mmgwap.evaluation.wsol_maps import SIZE, MapSums
from mmgwap.evaluation.wsol_truth import WSOLTruth

CHUNK = 32  # images that a process takes at a time


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('heatmaps', type=Path, help='folder of the maps')
    parser.add_argument(
        'metadata',
        type=Path,
        help='folder of a split, with image_ids.txt, '
        'class_labels.txt, image_sizes.txt, localization.txt',
    )
    parser.add_argument('--mask-root', default='', help='folder that paths of masks begin at')
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=SIZE,
        metavar=('H', 'W'),
        help='to measure at; maps of another are resized, bilinearly (default: 224 224)',
    )
    size.add_argument(
        '--original-size', action='store_true', help='measure at the size of each image'
    )
    parser.add_argument(
        '--interval', type=float, default=0.001, help='between thresholds (default: %(default)s)'
    )
    parser.add_argument('--jobs', type=int, default=1, help='processes (default: %(default)s)')
    parser.add_argument('--out', type=Path, help='JSON to write, too')
    args = parser.parse_args()
    if min(args.size) < 1 or args.jobs < 1:
        parser.error('--size and --jobs must be positive')
    if not 0 < args.interval < 1:
        parser.error('--interval must be in (0, 1)')
    return args


def find_heatmaps(folder: Path, images: list[str]) -> dict[str, str]:
    """The file of each image.

    Raises:
        FileNotFoundError: if one has none; names the first ones.
        ValueError: if two images would share one.
    """
    files, missing, owners = {}, [], {}
    for image in images:
        stem = os.path.splitext(image)[0]
        path = next(
            (path for path in (folder / f'{image}.npy', folder / f'{stem}.npy') if path.is_file()),
            None,
        )
        if path is None:
            missing.append(f'{image}.npy')
        elif owners.setdefault(path, image) != image:
            raise ValueError(
                f'{path}: is it of {owners[path]} or of {image}? '
                'Keep the extensions, as in IMAGE.jpg.npy'
            )
        files[image] = str(path)
    if missing:
        raise FileNotFoundError(
            f'{folder}: {len(missing)} of {len(images)} heatmaps are missing, '
            f'such as {", ".join(missing[:3])}'
        )
    return files


class Measure:
    """Counts some of the images; one in each process."""

    def __init__(self, truth: WSOLTruth, files: dict[str, str], settings: dict) -> None:
        self.truth, self.files, self.settings = truth, files, settings

    def __call__(self, images: list[str]) -> MapSums:
        sums = MapSums(self.truth, **self.settings)
        for image in images:
            sums.add(self.truth, image, load_heatmap(self.files[image]))
        return sums


def load_heatmap(path: str) -> np.ndarray:
    """Read a ``.npy`` file; ValueError with its path if it is another."""
    try:
        heatmap = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f'{path}: {error}') from None
    if not isinstance(heatmap, np.ndarray):
        raise ValueError(f'{path}: holds several arrays, a .npy has one')
    return heatmap


# Of a process of the pool; sent once, since it holds the whole metadata.
_measure = None


def _start(measure: Measure) -> None:
    global _measure
    _measure = measure
    cv2.setNumThreads(1)


def _run(images: list[str]) -> MapSums:
    return _measure(images)


@contextmanager
def mapper(measure: Measure, jobs: int) -> Iterator[Callable]:
    """A ``map`` of that many processes, in order."""
    if jobs == 1:
        yield lambda chunks: map(measure, chunks)
        return
    # A fork would inherit OpenCV's threads in an unknown state.
    with ProcessPoolExecutor(jobs, get_context('spawn'), _start, (measure,)) as pool:
        yield lambda chunks: pool.map(_run, chunks)


def evaluate(args: argparse.Namespace) -> dict:
    truth = WSOLTruth(str(args.metadata), args.mask_root)
    for each in truth.left_out:
        print(f'left out: {each}')
    if not truth.has_boxes and not truth.has_masks:
        raise ValueError(f'{args.metadata}: neither boxes nor masks to measure by')
    images = list(truth.metadata.labels)
    files = find_heatmaps(args.heatmaps, images)
    settings = dict(size=None if args.original_size else tuple(args.size), interval=args.interval)
    total = MapSums(truth, **settings)
    chunks = [images[i : i + CHUNK] for i in range(0, len(images), CHUNK)]
    with (
        mapper(Measure(truth, files, settings), args.jobs) as run,
        tqdm(total=len(images), unit='image') as bar,
    ):
        for chunk, sums in zip(chunks, run(chunks)):
            total.merge(sums)
            bar.update(len(chunk))
    return dict(images=len(images), **settings, results=total.compute())


def main() -> None:
    args = parse_args()
    try:
        report = evaluate(args)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    rows = [('measure', '%')] + [
        (name, f'{value:.3f} (of 1)' if name.endswith('threshold') else f'{value:.2f}')
        for name, value in report['results'].items()
    ]
    print(f'{report["images"]} images\n' + AsciiTable(rows).table)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(
            json.dumps(
                dict(heatmaps=str(args.heatmaps), metadata=str(args.metadata), **report), indent=1
            )
        )
        print(args.out)


if __name__ == '__main__':
    main()
