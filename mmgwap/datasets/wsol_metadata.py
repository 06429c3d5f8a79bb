"""Read the metadata files of the WSOL evaluation.

Choe et al., *Evaluating Weakly Supervised Object Localization Methods Right*, CVPR 2020. The
released metadata has a folder for each split with

    image_ids.txt      IMAGE
    class_labels.txt   IMAGE,CLASS                 one class per image, counted from 0
    image_sizes.txt    IMAGE,WIDTH,HEIGHT          px
    localization.txt   IMAGE,X0,Y0,X1,Y1           px, one line per box, or
                       IMAGE,MASK_PATH,IGNORE_PATH one line per mask

where IMAGE is a path relative to the folder of the images. A training split has the first two
files. Two optional files are extensions of mmgwap: ``masks.txt`` with masks beside a
``localization.txt`` of boxes, and ``classes.txt`` with the name of each class.
"""

from collections.abc import Iterator
from typing import Any, Callable, NamedTuple, Optional

import numpy as np
from mmengine.fileio import exists, join_path

from .annotation_checks import MAX_COORDINATE
from .files import read_text

MAX_CLASSES = 10**6  # a typing error must not create millions of classes
REQUIRED = ('image_ids.txt', 'class_labels.txt')


class Masks(NamedTuple):
    """Mask files of an image, relative to the folder of the masks.

    Attributes:
        instances: one mask per object.
        ignore: mask of pixels that belong to no object and are not evaluated, or None.
    """

    instances: list[str]
    ignore: Optional[str] = None


class WSOLMetadata(NamedTuple):
    """Metadata of a split, by image.

    Attributes:
        labels: class of each image, in the order of ``image_ids.txt``.
        sizes: width and height in px; may be empty.
        boxes: (N, 4) float64, x0, y0, x1, y1 in px, both corners inside of the box; may be empty.
        masks: mask files; may be empty.
        classes: names of the classes; may be empty.
    """

    labels: dict[str, int]
    sizes: dict[str, tuple[int, int]]
    boxes: dict[str, np.ndarray]
    masks: dict[str, Masks]
    classes: tuple[str, ...]


def read_wsol_metadata(root: str, backend_args: Optional[dict] = None) -> WSOLMetadata:
    """Read the files of a split.

    Args:
        root (str): folder of the split.
        backend_args (dict): arguments of mmengine's file backend.

    Raises:
        FileNotFoundError: if image_ids.txt or class_labels.txt is missing.
        ValueError: if a line is malformed or has an image that is not in image_ids.txt, or if an
            image has no class, or two. The message has file and line.
    """
    reader = _Reader(root, backend_args)
    image_ids = {}
    for where, (image,) in reader.rows('image_ids.txt', (1,)):
        if image in image_ids:
            raise ValueError(f'{where}: {image} is listed twice')
        image_ids[image] = None
    reader.image_ids = image_ids
    labels = _read_ints(reader, 'class_labels.txt', 1, range(MAX_CLASSES))
    missing = [image for image in image_ids if image not in labels]
    if missing:
        raise ValueError(
            f'{reader.path("class_labels.txt")}: no class for {len(missing)} images of '
            f'image_ids.txt, such as {missing[0]}'
        )
    sizes = _read_ints(reader, 'image_sizes.txt', 2, range(1, MAX_COORDINATE))
    boxes, masks = _read_localization(reader)
    return WSOLMetadata(
        labels={image: labels[image][0] for image in image_ids},
        sizes=sizes,
        boxes=boxes,
        masks=masks,
        classes=tuple(name for _, (name,) in reader.rows('classes.txt', (1,))),
    )


class _Reader:
    """Read the files of a folder line by line."""

    def __init__(self, root: str, backend_args: Optional[dict]) -> None:
        self.root, self.backend_args = root, backend_args
        self.image_ids = None  # known images, once image_ids.txt is read

    def path(self, name: str) -> str:
        return join_path(self.root, name, backend_args=self.backend_args)

    def rows(self, name: str, counts: tuple[int, ...]) -> Iterator[tuple[str, list[str]]]:
        """Yield the fields of each line, and before them its file and number for errors."""
        path = self.path(name)
        if not exists(path, backend_args=self.backend_args):
            if name in REQUIRED:
                raise FileNotFoundError(
                    f'{path}: missing; a split requires {" and ".join(REQUIRED)}'
                )
            return
        for number, line in enumerate(read_text(path, self.backend_args).splitlines(), 1):
            if not line.strip():
                continue
            # A file with one column may contain commas.
            fields = [field.strip() for field in ([line] if counts == (1,) else line.split(','))]
            where = f'{path}, line {number}'
            if len(fields) not in counts:
                allowed = ' or '.join(map(str, counts))
                raise ValueError(f'{where}: must have {allowed} fields, got {line!r}')
            named = self.image_ids is not None and name != 'classes.txt'
            if named and fields[0] not in self.image_ids:
                raise ValueError(f'{where}: {fields[0]} is not in image_ids.txt')
            yield where, fields


def _read_ints(reader: _Reader, name: str, count: int, allowed: range) -> dict[str, tuple]:
    """Read a file of integers with at most one line per image."""
    values = {}
    for where, (image, *fields) in reader.rows(name, (1 + count,)):
        if image in values:
            raise ValueError(f'{where}: {image} is listed twice')
        values[image] = _convert(where, int, fields)
        if not all(value in allowed for value in values[image]):
            raise ValueError(
                f'{where}: must have numbers from {allowed[0]} to {allowed[-1]}, got '
                f'{",".join(fields)}'
            )
    return values


def _read_localization(reader: _Reader) -> tuple[dict, dict]:
    boxes, masks = {}, {}
    for name in ('localization.txt', 'masks.txt'):
        for where, (image, *fields) in reader.rows(name, (3, 5)):
            if len(fields) == 4:
                boxes.setdefault(image, []).append(_to_box(where, fields))
            else:
                masks[image] = _add_mask(where, masks.get(image, Masks([])), *fields)
    return {image: np.array(rows) for image, rows in boxes.items()}, masks


def _to_box(where: str, fields: list[str]) -> tuple[float, ...]:
    x0, y0, x1, y1 = box = _convert(where, float, fields)
    if not ((np.abs(box) < MAX_COORDINATE).all() and x0 <= x1 and y0 <= y1):
        raise ValueError(f'{where}: {",".join(fields)} is not a box x0,y0,x1,y1')
    return box


def _add_mask(where: str, masks: Masks, mask: str, ignore: str) -> Masks:
    if not mask:
        raise ValueError(f'{where}: must have the path of a mask')
    if masks.ignore and ignore not in ('', masks.ignore):
        raise ValueError(
            f'{where}: ignore mask {ignore} differs from {masks.ignore} of the same image'
        )
    return Masks([*masks.instances, mask], masks.ignore or ignore or None)


def _convert(where: str, to: Callable, fields: list[str]) -> tuple[Any, ...]:
    try:
        return tuple(map(to, fields))
    except ValueError:
        raise ValueError(f'{where}: must have numbers, got {",".join(fields):.80}') from None
