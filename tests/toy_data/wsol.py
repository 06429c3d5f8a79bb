"""Toy versions of ILSVRC CLS-LOC, CUB-200-2011 and OpenImages30k.

The first two have the published layout, so make_wsol_metadata.py must be run on them. The
third includes metadata as the WSOL evaluation provides it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Union

import numpy as np
from wsol_writer import write_wsol_metadata

from mmgwap.datasets.wsol_metadata import Masks, WSOLMetadata

from .drawing import Scene, draw, write_image, write_lines
from .voc import corners, write_xml


def write_ilsvrc(folder: Union[str, Path], train: int = 40, val: int = 8, seed: int = 0) -> Path:
    """Write ``ILSVRC/`` and ``LOC_synset_mapping.txt`` in a folder.

    The 1,000 classes have invented WordNet ids. Most classes have no image.

    Args:
        folder (str or Path): parent folder.
        train, val (int): numbers of images.
        seed (int): seed of the images.

    Returns:
        Path: the folder ``ILSVRC/``.
    """
    root = Path(folder) / 'ILSVRC'
    wnids = [f'n{1440764 + 11 * i:08d}' for i in range(1000)]
    write_lines(
        root.parent / 'LOC_synset_mapping.txt',
        [f'{wnid} class {i}, kind {i}' for i, wnid in enumerate(wnids)],
    )
    names = dict(train=[], val=[])
    # 37 and 1,000 have no common factor, so no class repeats.
    for label, scene in _single_objects(train, 37, 1000, (seed, 5)):
        names['train'].append(f'{wnids[label]}/{wnids[label]}_{label}')
        _write_jpeg(root, 'train', names['train'][-1], scene)
    for label, scene in _single_objects(val, 37, 1000, (seed, 6)):
        names['val'].append(f'ILSVRC2012_val_{len(names["val"]) + 1:08d}')
        _write_jpeg(root, 'val', names['val'][-1], scene)
        write_xml(
            root / 'Annotations/CLS-LOC/val',
            names['val'][-1],
            'val',
            scene,
            [
                dict(name=wnids[label], pose='Unspecified', truncated=0, difficult=0, bndbox=box)
                for box in corners(scene)
            ],
        )
    for file, split in (('train_cls', 'train'), ('val', 'val')):
        write_lines(
            root / 'ImageSets' / 'CLS-LOC' / f'{file}.txt',
            [f'{name} {i}' for i, name in enumerate(names[split], 1)],
        )
    return root


def _write_jpeg(root: Path, split: str, name: str, scene: Scene) -> None:
    write_image(root / 'Data' / 'CLS-LOC' / split / f'{name}.JPEG', scene.image)


def write_cub(folder: Union[str, Path], seed: int = 0) -> Path:
    """Write ``CUB_200_2011/`` with two images per class in a folder.

    Args:
        folder (str or Path): parent folder.
        seed (int): seed of the images.

    Returns:
        Path: the folder ``CUB_200_2011/``.
    """
    root = Path(folder) / 'CUB_200_2011'
    classes = [f'{i:03d}.Bird_of_{i}' for i in range(1, 201)]
    tables = dict(images=[], image_class_labels=[], train_test_split=[], bounding_boxes=[])
    for index, (label, scene) in enumerate(_single_objects(400, 1, 200, (seed, 7))):
        name = f'{classes[label]}/Bird_{index + 1:04d}.jpg'
        write_image(root / 'images' / name, scene.image)
        rows = (
            name,
            label + 1,
            int(index < 200),
            ' '.join(f'{side:.1f}' for side in scene.boxes[0]),
        )
        for table, row in zip(tables.values(), rows):
            table.append(f'{index + 1} {row}')
    tables['classes'] = [f'{i} {name}' for i, name in enumerate(classes, 1)]
    for name, lines in tables.items():
        write_lines(root / f'{name}.txt', lines)
    return root


def write_openimages(folder: Union[str, Path], seed: int = 0) -> Path:
    """Write ``OpenImages/`` with an image per class and split in a folder.

    Images and masks are in ``train/``, ``val/`` and ``test/``, metadata in ``metadata/``.

    Args:
        folder (str or Path): parent folder.
        seed (int): seed of the images.

    Returns:
        Path: the folder ``OpenImages/``.
    """
    root = Path(folder) / 'OpenImages'
    for number, split in enumerate(('train', 'val', 'test')):
        metadata = WSOLMetadata({}, {}, {}, {}, ())
        for label, scene in _single_objects(100, 1, 100, (seed, 8, number)):
            stem = f'{split}/0{label:02d}xy/{label:016x}'
            write_image(root / f'{stem}.jpg', scene.image)
            metadata.labels[f'{stem}.jpg'] = label
            if split != 'train':
                metadata.sizes[f'{stem}.jpg'] = scene.image.shape[1::-1]
                metadata.masks[f'{stem}.jpg'] = _write_masks(root, stem, scene)
        write_wsol_metadata(root / 'metadata' / split, metadata)
    return root


def _write_masks(root: Path, stem: str, scene: Scene) -> Masks:
    """Write the mask of the object, and an ignore mask of the rows above and below it."""
    ((x, y, w, h),) = scene.boxes
    mask, ignore = (np.zeros(scene.image.shape[:2], np.uint8) for _ in range(2))
    ignore[max(y - 1, 0) : y + h + 1, x : x + w] = 255
    mask[y : y + h, x : x + w] = 255
    ignore -= mask
    masks = Masks([f'{stem}_m00.png'], f'{stem}_ignore.png')
    write_image(root / masks.instances[0], mask)
    write_image(root / masks.ignore, ignore)
    return masks


def _single_objects(
    count: int, step: int, classes: int, seed: tuple[int, ...]
) -> Iterator[tuple[int, Scene]]:
    """Yield labels that are ``step`` apart, with an image of one object each."""
    for index in range(count):
        label = index * step % classes
        yield label, draw([label], np.random.RandomState([*seed, index]))
