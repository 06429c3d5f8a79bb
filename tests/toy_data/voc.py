"""Toy versions of PASCAL VOC 2007 and 2012, and of other data in VOC layout."""

from collections.abc import Sequence
from pathlib import Path
from typing import Union
from xml.etree import ElementTree

from mmdet.datasets import VOCDataset
from numpy.random import RandomState

from .drawing import Scene, label_groups, scenes, write_image, write_lines

CLASSES = VOCDataset.METAINFO['classes']
POSES = ('Unspecified', 'Left', 'Right', 'Frontal', 'Rear')
CARDS = ('nine', 'ten', 'jack', 'queen', 'king', 'ace')


def write_voc(
    folder: Union[str, Path],
    trainval2007: int = 300,
    test2007: int = 10,
    trainval2012: int = 700,
    test2012: int = 4,
    seed: int = 0,
) -> Path:
    """Write ``VOCdevkit/`` with VOC 2007 and 2012 in a folder.

    As in the real files, about one object in seven is difficult, persons of 2012 have parts,
    some coordinates of 2012 are fractions, and the test images of 2012 have no annotations.
    1 % of the default 300 + 700 images can contain all classes.

    Args:
        folder (str or Path): parent folder.
        trainval2007, test2007, trainval2012, test2012 (int): numbers of images. train and
            val each have half of trainval.
        seed (int): seed of the images.

    Returns:
        Path: the folder ``VOCdevkit/``.
    """
    root = Path(folder) / 'VOCdevkit'
    counts = {2007: (trainval2007, test2007), 2012: (trainval2012, test2012)}
    for year, (trainval, test) in counts.items():
        found = _write_images(root, year, trainval + test, trainval, seed)
        ids = list(found)
        sets = dict(
            train=ids[:trainval:2],
            val=ids[1:trainval:2],
            trainval=ids[:trainval],
            test=ids[trainval:],
        )
        for name, members in sets.items():
            _write_set(root / f'VOC{year}', name, members, found, CLASSES)
    return root


def write_cards(folder: Union[str, Path], train: int = 40, test: int = 8, seed: int = 0) -> Path:
    """Write ``cards/``, playing cards in VOC layout, in a folder.

    Args:
        folder (str or Path): parent folder.
        train, test (int): numbers of images.
        seed (int): seed of the images.

    Returns:
        Path: the folder ``cards/``.
    """
    root, sets = Path(folder) / 'cards', dict(train=[], test=[])
    drawn = scenes(label_groups(len(CARDS), 2), train + test, (seed, 3))
    for index, scene in enumerate(drawn):
        name = f'cam_image{index + 1}'
        write_image(root / 'JPEGImages' / f'{name}.jpg', scene.image)
        objects = [
            dict(name=CARDS[label], pose='Unspecified', truncated=0, difficult=0, bndbox=box)
            for label, box in zip(scene.labels, corners(scene))
        ]
        write_xml(root / 'Annotations', name, 'cards', scene, objects)
        sets['train' if index < train else 'test'].append(name)
    for name, members in sets.items():
        write_lines(root / 'ImageSets' / 'Main' / f'{name}.txt', members)
    return root


def _write_images(
    root: Path, year: int, count: int, trainval: int, seed: int
) -> dict[str, list[dict]]:
    """Write the images and XML files of a year; return the objects by image name."""
    found, home = {}, root / f'VOC{year}'
    drawn = scenes(label_groups(len(CLASSES), 4), count, (seed, year))
    for index, scene in enumerate(drawn):
        name = f'{index + 5:06d}' if year == 2007 else f'2008_{index + 2:06d}'
        write_image(home / 'JPEGImages' / f'{name}.jpg', scene.image)
        if year == 2012 and index >= trainval:
            found[name] = None
            continue
        found[name] = _objects(scene, year, RandomState([seed, year, index]))
        write_xml(home / 'Annotations', name, f'VOC{year}', scene, found[name])
    return found


def _objects(scene: Scene, year: int, rng: RandomState) -> list[dict]:
    """Return the fields of each object in the order of the real files."""
    objects = []
    for label, box in zip(scene.labels, corners(scene)):
        fields = dict(
            name=CLASSES[label],
            pose=POSES[rng.randint(len(POSES))],
            truncated=rng.randint(2),
            difficult=int(rng.rand() < 1 / 7),
            bndbox=box,
        )
        if year == 2012 and rng.rand() < 0.1:
            fields['bndbox'] = dict(box, xmin=f'{box["xmin"]}.70000076293945')
        if year == 2012 and fields['name'] == 'person':
            fields['part'] = dict(name='head', bndbox=box)
        objects.append(fields)
    return objects


def corners(scene: Scene) -> list[dict]:
    """Return VOC boxes: first and last column and row, counted from 1, both inside."""
    return [dict(xmin=x + 1, ymin=y + 1, xmax=x + w, ymax=y + h) for x, y, w, h in scene.boxes]


def write_xml(folder: Path, name: str, source: str, scene: Scene, objects: Sequence[dict]) -> None:
    """Write the annotation of an image. Objects keep the order of their fields."""
    height, width, depth = scene.image.shape
    root = ElementTree.Element('annotation')
    _fill(
        root,
        dict(
            folder=source,
            filename=f'{name}.jpg',
            source=dict(
                database=f'The {source} Database', annotation=f'PASCAL {source}', image='flickr'
            ),
            size=dict(width=width, height=height, depth=depth),
            segmented=0,
        ),
    )
    for fields in objects:
        _fill(ElementTree.SubElement(root, 'object'), fields)
    ElementTree.indent(root)
    write_lines(folder / f'{name}.xml', [ElementTree.tostring(root).decode()])


def _fill(element: ElementTree.Element, values: dict) -> None:
    for key, value in values.items():
        child = ElementTree.SubElement(element, key)
        if isinstance(value, dict):
            _fill(child, value)
        else:
            child.text = str(value)


def _write_set(
    home: Path,
    name: str,
    members: Sequence[str],
    found: dict[str, list[dict]],
    classes: Sequence[str],
) -> None:
    """Write the image list of a split and, if it is annotated, the list of each class.

    The flag of an image is 1 with objects of the class, 0 with difficult objects only, and
    -1 without.
    """
    folder = home / 'ImageSets' / 'Main'
    write_lines(folder / f'{name}.txt', members)
    if any(found[member] is None for member in members):
        return
    for label in classes:
        lines = []
        for member in members:
            flags = [item['difficult'] for item in found[member] if item['name'] == label]
            flag = (0 if all(flags) else 1) if flags else -1
            lines.append(f'{member} {flag:2d}')
        write_lines(folder / f'{label}_{name}.txt', lines)
