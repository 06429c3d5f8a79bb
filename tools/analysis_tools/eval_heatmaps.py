"""Measure a folder of score maps with the metrics of the WSOL evaluation.

For each IMAGE in METADATA/image_ids.txt, the folder holds an array (H, W) in IMAGE.npy, named
with the suffix of the image (cat/1.jpg.npy) or without it (cat/1.npy). Prints MaxBoxAcc V1 and
V2 if METADATA has boxes, and PxAP if it has masks.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from terminaltables import AsciiTable
from tqdm import tqdm

from mmgwap.evaluation.wsol import SIZE, ScoreMapMeasures, WSOLGroundTruth

CHUNK = 32  # images per task of a process


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('heatmaps', type=Path, help='folder of the score maps')
    parser.add_argument(
        'metadata',
        type=Path,
        help='folder of a split with image_ids.txt, class_labels.txt, image_sizes.txt and '
        'localization.txt',
    )
    parser.add_argument(
        '--mask-root', default='', help='folder that the paths of masks are relative to'
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=SIZE,
        metavar=('H', 'W'),
        help='size of the measured maps; other maps are resized bilinearly (default: 224 224)',
    )
    size.add_argument(
        '--original-size', action='store_true', help='resize each map to the size of its image'
    )
    parser.add_argument(
        '--interval',
        type=float,
        default=0.001,
        help='step of the thresholds (default: %(default)s)',
    )
    parser.add_argument('--jobs', type=int, default=1, help='processes (default: %(default)s)')
    parser.add_argument('--out', type=Path, help='JSON file for the results')
    args = parser.parse_args()
    if min(*args.size, args.jobs) < 1:
        parser.error('--size and --jobs must be positive')
    if not 0 < args.interval < 1:
        parser.error(f'--interval must be in (0, 1), got {args.interval}')
    return args


def find_heatmaps(folder: Path, images: list[str]) -> dict[str, str]:
    """Return the file of each image.

    Raises:
        FileNotFoundError: if images have no file; names the first three.
        ValueError: if two images share a file.
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
                f'{path}: belongs to {owners[path]} and to {image}; '
                'name the files with suffixes, as in IMAGE.jpg.npy'
            )
        files[image] = str(path)
    if missing:
        raise FileNotFoundError(
            f'{folder}: {len(missing)} of {len(images)} heatmaps are missing, '
            f'such as {", ".join(missing[:3])}'
        )
    return files


def load_heatmap(path: str) -> np.ndarray:
    """Read a .npy file; raise ValueError with its path if the file holds no array."""
    try:
        heatmap = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f'{path}: {error}') from None
    if not isinstance(heatmap, np.ndarray):
        raise ValueError(f'{path}: holds several arrays, expected the single array of a .npy file')
    return heatmap


class Accumulator:
    """Accumulate the sums of images.

    Args:
        truth (WSOLGroundTruth): boxes and masks.
        files (dict[str, str]): heatmap file by image.
        settings (dict): keyword arguments of ``ScoreMapMeasures``.
    """

    def __init__(self, truth: WSOLGroundTruth, files: dict[str, str], settings: dict) -> None:
        self.truth, self.files, self.settings = truth, files, settings

    def __call__(self, images: list[str]) -> ScoreMapMeasures:
        sums = ScoreMapMeasures(self.truth, **self.settings)
        for image in images:
            sums.add(self.truth, image, load_heatmap(self.files[image]))
        return sums


# Sent once to each process of the pool, because it holds the whole metadata.
_accumulate = None


def _start_process(accumulate: Accumulator) -> None:
    global _accumulate
    _accumulate = accumulate
    cv2.setNumThreads(1)


def _run_in_process(images: list[str]) -> ScoreMapMeasures:
    return _accumulate(images)


def accumulate_chunks(
    accumulate: Accumulator, chunks: list[list[str]], jobs: int
) -> Iterator[ScoreMapMeasures]:
    """Yield the sums of each chunk of images, in order, computed by `jobs` processes."""
    if jobs == 1:
        yield from map(accumulate, chunks)
        return
    # A forked process would inherit OpenCV's threads in an undefined state.
    context = get_context('spawn')
    with ProcessPoolExecutor(jobs, context, _start_process, (accumulate,)) as pool:
        yield from pool.map(_run_in_process, chunks)


def evaluate(args: argparse.Namespace) -> dict:
    """Measure the heatmaps; return the number of images, the settings and the results."""
    truth = WSOLGroundTruth(str(args.metadata), args.mask_root)
    for metric in truth.left_out:
        print(f'left out: {metric}')
    if not truth.has_boxes and not truth.has_masks:
        raise ValueError(f'{args.metadata}: has neither boxes nor masks')
    images = list(truth.metadata.labels)
    files = find_heatmaps(args.heatmaps, images)
    settings = dict(size=None if args.original_size else tuple(args.size), interval=args.interval)
    total = ScoreMapMeasures(truth, **settings)
    chunks = [images[i : i + CHUNK] for i in range(0, len(images), CHUNK)]
    all_sums = accumulate_chunks(Accumulator(truth, files, settings), chunks, args.jobs)
    with tqdm(total=len(images), unit='image') as bar:
        for chunk, sums in zip(chunks, all_sums):
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
