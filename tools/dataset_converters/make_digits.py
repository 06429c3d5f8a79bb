"""Write "digits in clutter", a data set in COCO format.

    OUT/train/000000.bmp ...       OUT/annotations/train.json
    OUT/val/000000.bmp ...         OUT/annotations/val.json

The annotations have boxes and masks. Each entry of ``images`` also has ``image_labels``, the ids of
the categories on the image.

With --single each image has exactly one digit, for weakly supervised localization, and these files
in the layout of the WSOL evaluation are added:

    OUT/metadata/train/image_ids.txt ...    OUT/masks/train/000000.png ...
    OUT/metadata/val/image_ids.txt ...      OUT/masks/val/000000.png ...
"""

import argparse
import json
import os
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
from digits import SPLITS, Glyphs, load_glyphs, make_scene
from numpy.random import RandomState
from pycocotools import mask as coco_mask
from tqdm import tqdm
from wsol_writer import write_wsol_metadata

from mmgwap.datasets.wsol_metadata import Masks, WSOLMetadata


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--out', type=Path, help='folder to write to (default: data/digits, or data/digits-single)'
    )
    parser.add_argument(
        '--single', action='store_true', help='one digit per image, with metadata and masks'
    )
    parser.add_argument(
        '--train', type=_count, help='training images (default: 2000, or 4000 with --single)'
    )
    parser.add_argument(
        '--val', type=_count, default=500, help='validation images (default: %(default)s)'
    )
    parser.add_argument(
        '--seed', type=_seed, default=0, help='seed, from 0 to 2^32 - 1 (default: %(default)s)'
    )
    parser.add_argument('--force', action='store_true', help='overwrite existing files')
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


def make_split(
    folder: Path,
    glyphs: Glyphs,
    split: str,
    count: int,
    seed: int,
    force: bool = False,
    single: bool = False,
) -> None:
    """Write the images of a split, then the annotation file by renaming a complete file.

    A split is therefore complete if its annotation file exists. A complete split of the same seed
    and size is kept, unless ``force`` is set.
    """
    target = folder / 'annotations' / f'{split}.json'
    form = 'one an image, ' if single else ''
    info = dict(
        description=f'digits in clutter, {form}{split}', seed=seed, count=count, version='1.0'
    )
    if not force and _read_info(target) == info:
        print(f'{target} is up to date ({count} images)')
        return
    images, annotations = [], []
    metadata = WSOLMetadata({}, {}, {}, {}, tuple('0123456789'))
    target.unlink(missing_ok=True)
    (folder / split).mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(count), desc=split, unit='image'):
        # A generator per image makes the first n images independent of the count.
        rng = RandomState([seed, SPLITS.index(split), index])
        scene = make_scene(glyphs, rng, single)
        entry = dict(
            id=index,
            file_name=f'{index:06d}.bmp',
            height=scene.image.shape[0],
            width=scene.image.shape[1],
            image_labels=sorted({d + 1 for d in scene.labels}),
        )
        images.append(entry)
        for label, mask in zip(scene.labels, scene.masks):
            annotations.append(_annotation(len(annotations), index, label, mask))
        # Uncompressed, because encoders differ between machines.
        _write_image(folder / split / entry['file_name'], scene.image)
        if single:
            _add(metadata, split, entry, annotations[-1])
            _write_mask(folder / 'masks' / split / f'{index:06d}.png', scene.masks[0])
    if single:
        write_wsol_metadata(folder / 'metadata' / split, metadata)
    categories = [dict(id=d + 1, name=str(d)) for d in range(10)]
    _write_json(
        target, dict(info=info, images=images, annotations=annotations, categories=categories)
    )


def _annotation(index: int, image: int, label: int, mask: np.ndarray) -> dict:
    lines, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(lines[0])
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(
        id=index,
        image_id=image,
        category_id=label + 1,
        iscrowd=0,
        bbox=[left, top, int(columns[-1]) + 1 - left, int(lines[-1]) + 1 - top],
        area=int(mask.sum()),
        segmentation=dict(size=rle['size'], counts=rle['counts'].decode()),
    )


def _add(metadata: WSOLMetadata, split: str, entry: dict, annotation: dict) -> None:
    """Add an image of one digit to the metadata; both corners are inside of the box."""
    image = f'{split}/{entry["file_name"]}'
    left, top, width, height = annotation['bbox']
    metadata.labels[image] = annotation['category_id'] - 1
    metadata.sizes[image] = (entry['width'], entry['height'])
    metadata.boxes[image] = np.array([[left, top, left + width - 1, top + height - 1]])
    metadata.masks[image] = Masks([f'{split}/{entry["id"]:06d}.png'])


def _read_info(path: Path) -> dict:
    """Read ``info`` of an annotation file; empty if the file is missing or incomplete."""
    try:
        return json.loads(path.read_text())['info']
    except (OSError, ValueError, KeyError):
        return {}


def _write_image(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image):
        raise OSError(f'cannot write {path}')


def _write_mask(path: Path, mask: np.ndarray) -> None:
    """Write a mask as a grey PNG of 0 and 255, uncompressed like the images.

    Encoders split even an uncompressed stream differently, so the file is written here. One deflate
    block of at most 65,535 bytes is enough for a mask of 128 x 128 pixels.
    """
    height, width = mask.shape
    lines = np.zeros((height, 1 + width), np.uint8)  # first column: PNG filter 0, none
    lines[:, 1:][mask] = 255
    data = lines.tobytes()
    block = struct.pack('<BHH', 1, len(data), len(data) ^ 0xFFFF) + data
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b''.join(
            (
                b'\x89PNG\r\n\x1a\n',
                _chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)),
                _chunk(b'IDAT', b'\x78\x01' + block + struct.pack('>I', zlib.adler32(data))),
                _chunk(b'IEND', b''),
            )
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix('.tmp')
    temporary.write_text(json.dumps(content))
    os.replace(temporary, path)


def _check_form(folder: Path, single: bool) -> None:
    """Exit if the folder holds images of the other form; some of its files would remain."""
    has_single = (folder / 'metadata').exists()
    if has_single != single and (has_single or (folder / 'annotations').exists()):
        count = 'one digit' if has_single else 'one to four digits'
        sys.exit(f'{folder} contains images with {count}; choose another --out')


def main() -> None:
    args = parse_args()
    args.train = args.train or (4000 if args.single else 2000)
    out = args.out or Path('data/digits-single' if args.single else 'data/digits')
    _check_form(out, args.single)
    counts = dict(train=args.train, val=args.val)
    for split, glyphs in zip(SPLITS, load_glyphs(args.seed)):
        make_split(out, glyphs, split, counts[split], args.seed, args.force, args.single)


if __name__ == '__main__':
    main()
