"""Write "digits in clutter", a data set in COCO format, to a folder.

    OUT/train/000000.bmp ...       OUT/annotations/train.json
    OUT/val/000000.bmp ...         OUT/annotations/val.json

Besides boxes and masks, each entry of ``images`` has ``image_labels``, the ids
of the categories that are on the image.
"""
import argparse
import json
import os
from pathlib import Path

import cv2
import numpy as np
from numpy.random import RandomState
from pycocotools import mask as coco_mask
from tqdm import tqdm

from mmgwap.datasets.digits import SPLITS, Glyphs, load_glyphs, make_scene


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('data/digits'),
                        help='folder to write to (default: %(default)s)')
    parser.add_argument('--train', type=_count, default=2000,
                        help='training images (default: %(default)s)')
    parser.add_argument('--val', type=_count, default=500,
                        help='validation images (default: %(default)s)')
    parser.add_argument('--seed', type=_seed, default=0,
                        help='0 to 2^32 - 1 (default: %(default)s)')
    parser.add_argument('--force', action='store_true',
                        help='write again what is already there')
    return parser.parse_args()


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{value} is less than 1')
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f'{value} is not in 0 to 2^32 - 1')
    return value


def make_split(folder: Path, glyphs: Glyphs, split: str, count: int,
               seed: int, force: bool = False) -> None:
    """Write one split: images first, then the annotations in one stroke.

    An annotation file therefore means a complete split; one of the same seed
    and size is left as it is, unless ``force`` is set.
    """
    target = folder / 'annotations' / f'{split}.json'
    info = dict(description=f'digits in clutter, {split}', seed=seed,
                count=count, version='1.0')
    if not force and _read_info(target) == info:
        print(f'{target} is up to date ({count} images)')
        return
    images, annotations = [], []
    target.unlink(missing_ok=True)
    (folder / split).mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(count), desc=split, unit='image'):
        # Each image has a stream of its own, so that the first n images do
        # not depend on how many there are.
        rng = RandomState([seed, SPLITS.index(split), index])
        scene = make_scene(glyphs, rng)
        entry = dict(id=index, file_name=f'{index:06d}.bmp',
                     height=scene.image.shape[0], width=scene.image.shape[1],
                     image_labels=sorted({d + 1 for d in scene.labels}))
        images.append(entry)
        for label, mask in zip(scene.labels, scene.masks):
            annotations.append(
                _annotation(len(annotations), index, label, mask))
        # Uncompressed: encoders differ from one machine to the next.
        _write_image(folder / split / entry['file_name'], scene.image)
    categories = [dict(id=d + 1, name=str(d)) for d in range(10)]
    _write_json(target, dict(info=info, images=images,
                             annotations=annotations, categories=categories))


def _annotation(index: int, image: int, label: int, mask: np.ndarray) -> dict:
    lines, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(lines[0])
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(
        id=index, image_id=image, category_id=label + 1, iscrowd=0,
        bbox=[left, top, int(columns[-1]) + 1 - left, int(lines[-1]) + 1 - top],
        area=int(mask.sum()),
        segmentation=dict(size=rle['size'], counts=rle['counts'].decode()))


def _read_info(path: Path) -> dict:
    """``info`` of an annotation file, empty if there is no such file."""
    try:
        return json.loads(path.read_text())['info']
    except (OSError, ValueError, KeyError):
        return {}


def _write_image(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image):
        raise OSError(f'cannot write {path}')


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix('.tmp')
    draft.write_text(json.dumps(content))
    os.replace(draft, path)


def main() -> None:
    args = parse_args()
    counts = dict(train=args.train, val=args.val)
    for split, glyphs in zip(SPLITS, load_glyphs(args.seed)):
        make_split(args.out, glyphs, split, counts[split], args.seed,
                   args.force)


if __name__ == '__main__':
    main()
