"""The text files of the WSOL evaluation: who is on an image, and where.

Choe et al., *Evaluating Weakly Supervised Object Localization Methods Right*,
CVPR 2020, whose released metadata has a folder of each split with

    image_ids.txt      IMAGE
    class_labels.txt   IMAGE,CLASS                 one class an image, from 0
    image_sizes.txt    IMAGE,WIDTH,HEIGHT          px
    localization.txt   IMAGE,X0,Y0,X1,Y1           px, a line each box, or
                       IMAGE,MASK_PATH,IGNORE_PATH a line each mask

where IMAGE is a path below the folder of the images.  A split for training has
the first two.  Two files more are ours, and optional: ``masks.txt``, of the
second form, beside a ``localization.txt`` of boxes, and ``classes.txt``, the
name of each class.
"""

from collections.abc import Iterator
from typing import Callable, NamedTuple, Optional

import numpy as np
from mmengine.fileio import exists, join_path

from .degenerate import HUGE
from .text_files import read_text

MOST_CLASSES = 10**6  # a typing error should not make millions


class Masks(NamedTuple):
    """Paths below the folder of the masks.

    Attributes:
        instances: one of each object.
        ignore: where nothing is said of pixels that are no object's; or None.
    """

    instances: list[str]
    ignore: Optional[str] = None


class WSOLMetadata(NamedTuple):
    """A split.

    Attributes:
        labels: the class of each image, in the order of ``image_ids.txt``.
        sizes: width and height of each image, px; may be empty.
        boxes: (N, 4) float64 each, x0, y0, x1, y1, px, both corners inside of
            the box; may be empty.
        masks: of each image; may be empty.
        classes: their names; may be empty.
    """

    labels: dict[str, int]
    sizes: dict[str, tuple[int, int]]
    boxes: dict[str, np.ndarray]
    masks: dict[str, Masks]
    classes: tuple[str, ...]


def read_wsol_metadata(root: str, backend_args: dict = None) -> WSOLMetadata:
    """Read the files of a split.

    Args:
        root (str): its folder.
        backend_args (dict): of mmengine's file client.

    Raises:
        FileNotFoundError: if image_ids.txt or class_labels.txt is missing.
        ValueError: if a line is not of its form, names an image that is not in
            image_ids.txt, or an image has no class, or two; with file and line.
    """
    files = _Files(root, backend_args)
    ids = {}
    for where, (image,) in files.rows('image_ids.txt', (1,)):
        if image in ids:
            raise ValueError(f'{where}: {image} comes a second time')
        ids[image] = None
    files.known = ids
    labels = _unique(files, 'class_labels.txt', 2, lambda label: int(label), range(MOST_CLASSES))
    missing = [image for image in ids if image not in labels]
    if missing:
        raise ValueError(
            f'{files.path("class_labels.txt")}: no class for '
            f'{len(missing)} images of image_ids.txt, such as '
            f'{missing[0]}'
        )
    sizes = _unique(
        files, 'image_sizes.txt', 3, lambda width, height: (int(width), int(height)), range(1, HUGE)
    )
    boxes, masks = _localization(files)
    classes = tuple(name for _, (name,) in files.rows('classes.txt', (1,)))
    return WSOLMetadata({image: labels[image] for image in ids}, sizes, boxes, masks, classes)


class _Files:
    """The files of a folder, line by line."""

    required = ('image_ids.txt', 'class_labels.txt')

    def __init__(self, root: str, backend_args: Optional[dict]) -> None:
        self.root, self.backend_args = root, backend_args
        self.known = None

    def path(self, name: str) -> str:
        return join_path(self.root, name, backend_args=self.backend_args)

    def rows(self, name: str, counts: tuple[int, ...]) -> Iterator[tuple[str, list[str]]]:
        """Where each line is, and its fields."""
        path = self.path(name)
        if not exists(path, backend_args=self.backend_args):
            if name in self.required:
                raise FileNotFoundError(
                    f'{path}: missing; the folder of a split needs {" and ".join(self.required)}'
                )
            return
        text = read_text(path, self.backend_args)
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            # The name of a class may have a comma.
            fields = (
                [line.strip()] if counts == (1,) else [field.strip() for field in line.split(',')]
            )
            where = f'{path}, line {number}'
            if len(fields) not in counts:
                raise ValueError(
                    f'{where}: needs {" or ".join(map(str, counts))} fields, got {line!r}'
                )
            if self.known is not None and name != 'classes.txt' and fields[0] not in self.known:
                raise ValueError(f'{where}: {fields[0]} is not in image_ids.txt')
            yield where, fields


def _unique(files: _Files, name: str, count: int, read: Callable, allowed: range) -> dict:
    """A value, or a tuple of such, of each image."""
    values = {}
    for where, (image, *fields) in files.rows(name, (count,)):
        if image in values:
            raise ValueError(f'{where}: {image} comes a second time')
        values[image] = _read(where, read, fields)
        if not all(value in allowed for value in np.ravel(values[image]).tolist()):
            raise ValueError(
                f'{where}: needs numbers from {allowed[0]} to {allowed[-1]}, got {",".join(fields)}'
            )
    return values


def _localization(files: _Files) -> tuple:
    boxes, masks = {}, {}
    for name in ('localization.txt', 'masks.txt'):
        for where, (image, *fields) in files.rows(name, (3, 5)):
            if len(fields) == 4:
                boxes.setdefault(image, []).append(_box(where, fields))
            else:
                masks[image] = _with_mask(where, masks.get(image), *fields)
    return {image: np.array(each) for image, each in boxes.items()}, masks


def _box(where: str, fields: list[str]) -> list[float]:
    box = _read(where, lambda *xyxy: [float(x) for x in xyxy], fields)
    if not ((np.abs(box) < HUGE).all() and box[0] <= box[2] and box[1] <= box[3]):
        raise ValueError(f'{where}: {",".join(fields)} is no box x0,y0,x1,y1')
    return box


def _with_mask(where: str, known: Optional[Masks], mask: str, ignore: str) -> Masks:
    if not mask:
        raise ValueError(f'{where}: needs the path of a mask')
    instances, ignored = known or ([], None)
    if ignored and ignore not in ('', ignored):
        raise ValueError(
            f'{where}: another ignore mask, {ignore}, than {ignored} of the same image'
        )
    return Masks([*instances, mask], ignored or ignore or None)


def _read(where: str, read: Callable, fields: list[str]):
    try:
        return read(*fields)
    except ValueError:
        raise ValueError(f'{where}: needs numbers, got {",".join(fields):.80}') from None
