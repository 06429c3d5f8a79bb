"""Read ILSVRC CLS-LOC, CUB-200-2011 and data in COCO layout, for the WSOL evaluation."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from tqdm import tqdm

from mmgwap.datasets import CheckedCocoDataset
from mmgwap.datasets.files import read_text
from mmgwap.datasets.voc import parse_xml
from mmgwap.datasets.wsol_metadata import WSOLMetadata

SPLITS = ('train', 'val')


def read_ilsvrc(root: Path) -> dict[str, WSOLMetadata]:
    """Read the training and validation images of ILSVRC CLS-LOC.

    Args:
        root (Path): folder with ``ILSVRC/`` and, optionally, ``LOC_synset_mapping.txt``, which
            gives the order and the names of the classes. Without it the classes are the sorted
            WordNet ids.

    Returns:
        dict: 'train', without sizes and boxes, and 'val', with the corners of boxes as in the XML
        files, which do not specify whether pixels are counted from 0 or from 1. Paths are relative
        to ``ILSVRC/Data/CLS-LOC/``.

    Raises:
        FileNotFoundError: if a list, an image or an XML file is missing.
        ValueError: if a file is malformed; with its path.
    """
    home = root / 'ILSVRC'
    lists = home / 'ImageSets' / 'CLS-LOC'
    files = {
        split: [f'{split}/{name}.JPEG' for name in read_table(path, 2)]
        for split, path in (('train', lists / 'train_cls.txt'), ('val', lists / 'val.txt'))
    }
    for paths in files.values():
        check_images(home / 'Data' / 'CLS-LOC', paths)
    names = _read_synsets(root / 'LOC_synset_mapping.txt', files['train'])
    labels = {wnid: i for i, wnid in enumerate(names)}
    train = WSOLMetadata({}, {}, {}, {}, tuple(names.values()))
    for image in files['train']:
        wnid = image.split('/')[1]
        train.labels[image] = _label_of(wnid, labels, lists / 'train_cls.txt')
    val = WSOLMetadata({}, {}, {}, {}, train.classes)
    for image in tqdm(files['val'], desc='val', unit='image'):
        path = (home / 'Annotations' / 'CLS-LOC' / image).with_suffix('.xml')
        wnid, val.sizes[image], val.boxes[image] = _read_xml(path)
        val.labels[image] = _label_of(wnid, labels, path)
    return dict(train=train, val=val)


def _read_synsets(path: Path, train: list[str]) -> dict[str, str]:
    """Return the class names by WordNet id, in order."""
    if not path.exists():
        return {wnid: wnid for wnid in sorted({image.split('/')[1] for image in train})}
    names = {wnid: name for wnid, (name,) in read_table(path, 2).items()}
    # Two synsets are called "crane".
    repeated = [name for name in names.values() if list(names.values()).count(name) > 1]
    return {wnid: f'{name} ({wnid})' if name in repeated else name for wnid, name in names.items()}


def _label_of(wnid: str, labels: dict[str, int], where: Path) -> int:
    if wnid not in labels:
        raise ValueError(
            f'{where}: {wnid} is not among the {len(labels)} classes of LOC_synset_mapping.txt or, '
            'without that file, of the training images'
        )
    return labels[wnid]


def _read_xml(path: Path) -> tuple[str, tuple[int, int], np.ndarray]:
    """Return WordNet id, (width, height) and boxes (N, 4) of an image."""
    if not path.is_file():
        raise FileNotFoundError(f'{path}: missing')
    root = parse_xml(path.read_bytes(), path)
    objects = root.findall('object')
    wnids = sorted({str(obj.findtext('name')) for obj in objects})
    if len(wnids) != 1:
        raise ValueError(
            f'{path}: must have objects of one class, got {", ".join(wnids) or "none"}'
        )
    size = tuple(int(_child_number(root, f'size/{side}', path)) for side in ('width', 'height'))
    if min(size) < 1:
        raise ValueError(f'{path}: size must be 1 pixel or more, got {size[0]} x {size[1]}')
    boxes = [
        [_child_number(obj, f'bndbox/{side}', path) for side in ('xmin', 'ymin', 'xmax', 'ymax')]
        for obj in objects
    ]
    return wnids[0], size, check_upright(boxes, path)


def _child_number(element: ElementTree.Element, name: str, path: Path) -> float:
    return read_number(element.findtext(name), f'{path}: {name}')


def read_cub(root: Path) -> dict[str, WSOLMetadata]:
    """Read the training and test images of CUB-200-2011.

    Args:
        root (Path): folder ``CUB_200_2011/``.

    Returns:
        dict: 'train' and 'test', both with sizes and boxes. A box x, y, width, height becomes x, y,
        x + width, y + height, as in the metadata of the WSOL evaluation. Paths are relative to
        ``images/``.

    Raises:
        FileNotFoundError: if a table or an image is missing.
        ValueError: if a table is malformed; with its path.
    """
    images = read_table(root / 'images.txt', 2)
    classes = read_table(root / 'classes.txt', 2)
    label_table, split_table, box_table = (
        _read_image_table(root / f'{name}.txt', count, images)
        for name, count in (
            ('image_class_labels', 2),
            ('train_test_split', 2),
            ('bounding_boxes', 5),
        )
    )
    check_images(root / 'images', [path for (path,) in images.values()])
    labels = {key: i for i, key in enumerate(classes)}
    names = tuple(name for (name,) in classes.values())
    splits = {split: WSOLMetadata({}, {}, {}, {}, names) for split in ('train', 'test')}
    for key in tqdm(images, desc='cub', unit='image'):
        (image,), (label,), (flag,) = images[key], label_table[key], split_table[key]
        if label not in labels:
            raise ValueError(
                f'{root / "image_class_labels.txt"}: image {key} has the class {label}, which is '
                'not in classes.txt'
            )
        if flag not in ('0', '1'):
            raise ValueError(
                f'{root / "train_test_split.txt"}: image {key} must have 0 or 1, got {flag}'
            )
        where = f'{root / "bounding_boxes.txt"}: image {key}'
        x, y, width, height = (read_number(text, where) for text in box_table[key])
        split = splits['train' if flag == '1' else 'test']
        split.labels[image] = labels[label]
        split.boxes[image] = check_upright([[x, y, x + width, y + height]], where)
        with Image.open(root / 'images' / image) as opened:
            split.sizes[image] = opened.size
    return splits


def read_coco(root: Path) -> dict[str, WSOLMetadata]:
    """Read the images of one class each of a data set in COCO layout.

    Args:
        root (Path): folder with ``annotations/{train,val}.json`` and ``images/``.

    Returns:
        dict: 'train' and 'val', both with sizes and boxes. Images without boxes, and images with
        several classes, are left out. A box x, y, width, height becomes x, y, x + width,
        y + height, as in the metadata of the WSOL evaluation. Paths are relative to ``images/``.

    Raises:
        FileNotFoundError: if a file or an image is missing.
        ValueError: if an annotation is malformed; with the path of the file.
    """
    return {split: _read_coco_split(root, f'annotations/{split}.json') for split in SPLITS}


def _read_coco_split(root: Path, ann_file: str) -> WSOLMetadata:
    categories = json.loads(read_text(root / ann_file))['categories']
    names = tuple(category['name'] for category in categories)
    dataset = CheckedCocoDataset(
        data_root=str(root),
        ann_file=ann_file,
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=names),
        test_mode=True,
    )
    metadata = WSOLMetadata({}, {}, {}, {}, names)
    for info in (dataset.get_data_info(index) for index in range(len(dataset))):
        boxes = [each['bbox'] for each in info['instances'] if not each['ignore_flag']]
        labels = {each['bbox_label'] for each in info['instances']}
        if boxes and len(labels) == 1:
            image = os.path.relpath(info['img_path'], root / 'images')
            (metadata.labels[image],) = labels
            metadata.sizes[image] = info['width'], info['height']
            metadata.boxes[image] = np.array(boxes)
    check_images(root / 'images', metadata.labels)
    return metadata


def _read_image_table(path: Path, count: int, images: dict) -> dict[str, list[str]]:
    """Read a table that must have one line per image."""
    table = read_table(path, count)
    unmatched = sorted(table.keys() ^ images.keys())
    if unmatched:
        raise ValueError(
            f'{path}: lists {len(table)} images and images.txt {len(images)}; {unmatched[0]} is '
            'only in one of them'
        )
    return table


def read_table(path: Path, count: int) -> dict[str, list[str]]:
    """Read lines of fields separated by blanks; the first field is the key."""
    if not path.is_file():
        raise FileNotFoundError(f'{path}: missing; check the folder of the data set')
    table = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        fields = line.split(maxsplit=count - 1)
        if not fields:
            continue
        where = f'{path}, line {number}'
        if fields[0] in table:
            raise ValueError(f'{where}: {fields[0]} is listed twice')
        if len(fields) != count:
            raise ValueError(f'{where}: must have {count} fields, got {line!r}')
        table[fields[0]] = [field.strip() for field in fields[1:]]
    return table


def check_images(folder: Path, images: Iterable[str]) -> None:
    """Raise FileNotFoundError if images are missing; each folder is listed once."""
    files: dict[Path, set] = {}
    missing = []
    for path in (folder / image for image in images):
        parent = path.parent
        if parent not in files:
            files[parent] = set(os.listdir(parent)) if parent.is_dir() else set()
        if path.name not in files[parent]:
            missing.append(path)
    if missing:
        raise FileNotFoundError(f'{missing[0]}: missing, and {len(missing) - 1} other images')


def read_number(text: str, where: str) -> float:
    """Convert text to a finite number."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f'{where} must be a number, got {text!r:.80}')
    return value


def check_upright(boxes: list[list[float]], where: str) -> np.ndarray:
    """Return boxes as an array; raise ValueError if one is inverted."""
    for x0, y0, x1, y1 in boxes:
        if x1 < x0 or y1 < y0:
            raise ValueError(f'{where}: the box {x0:g}, {y0:g}, {x1:g}, {y1:g} is inverted')
    return np.array(boxes)
