"""Read pseudo boxes of images from a file in COCO's results format.

The format is a JSON list of objects with ``image_id``, ``category_id``, ``bbox`` (x, y, width,
height) and ``score``, see https://cocodataset.org, "Results format". mmdet's ``CocoMetric`` writes
such files.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from mmengine.logging import print_log

from .annotation_checks import DEGENERATE, is_degenerate
from .coco import ID, NUMBER, TEXT, check_column
from .files import read_json


class Categories(NamedTuple):
    """Labels of a data set by class name, and by category id if the data set has ids."""

    by_name: Mapping[str, int]
    by_id: Mapping[Union[int, str], int] = {}


class ImageEntry(NamedTuple):
    """An image for which a results file may have boxes.

    Attributes:
        id: id in the data set; '7' and 7 are the same.
        categories: categories of its data set.
        wanted: whether to read its boxes. Images with true boxes do not need them.
        size: (width, height) in pixels; infinite if unknown.
    """

    id: Union[int, str]
    categories: Categories
    wanted: bool = True
    size: tuple[float, float] = (np.inf, np.inf)


class FileBoxes:
    """Boxes, labels and scores of images, in a few arrays.

    Args:
        count (int): number of images.
        images (np.ndarray): (N, ) index of the image of each box.
        bboxes (np.ndarray): (N, 4) rows of (x1, y1, x2, y2) in pixels of the image file.
        labels (np.ndarray): (N, ).
        scores (np.ndarray): (N, ).
    """

    def __init__(
        self,
        count: int,
        images: np.ndarray,
        bboxes: np.ndarray,
        labels: np.ndarray,
        scores: np.ndarray,
    ) -> None:
        order = np.argsort(images, kind='stable')
        self._starts = np.searchsorted(images[order], np.arange(count + 1)).astype(np.int64)
        self._bboxes = bboxes[order].astype(np.float32)
        self._labels = labels[order].astype(np.int32)
        self._scores = scores[order].astype(np.float32)

    def __getitem__(self, index: int) -> dict[str, list]:
        """Return the ``bboxes``, ``labels`` and ``scores`` of an image, in the file's order."""
        part = slice(self._starts[index], self._starts[index + 1])
        return dict(
            bboxes=self._bboxes[part].tolist(),
            labels=self._labels[part].tolist(),
            scores=self._scores[part].tolist(),
        )


def read_results(
    path: str, images: Sequence[ImageEntry], backend_args: Optional[dict] = None
) -> FileBoxes:
    """Read the boxes of images from a results file.

    Boxes without area or outside of their image are dropped, and ids that belong to no image are
    skipped, each with one warning. Entries may have ``category_name`` instead of ``category_id``;
    the name counts if both are given. Data sets without category ids require the name: ids would
    be ambiguous, since they count from 0 in some tools and from 1 in others.

    Args:
        path (str): file to read.
        images (sequence[ImageEntry]): images of the data set.
        backend_args (dict): arguments of mmengine's file backend.

    Returns:
        FileBoxes: boxes by the index of the image in ``images``.

    Raises:
        ValueError: if the file is not in the format, has a score outside of [0, 1], an unknown
            category, no image of the data set, or an id that several images of it share. The
            message has the number of the entry, counted from 0.
    """
    entries = read_json(path, backend_args)
    _check_entries(entries, path)
    found = _find_images(entries, images, path)
    wanted = np.array([image.wanted for image in images], dtype=bool)
    chosen = np.flatnonzero((found >= 0) & wanted[found])
    where = f'{path}, entry number'
    labels = [_label(entries[i], images[found[i]].categories, f'{where} {i}') for i in chosen]
    corners = _corners([entries[i]['bbox'] for i in chosen])
    widths, heights = np.array([images[i].size for i in found[chosen]]).reshape(-1, 2).T
    bad = is_degenerate(corners, widths, heights)
    if bad.any():
        print_log(
            f'{path}: dropped {bad.sum()} boxes {DEGENERATE}, the first in entry number '
            f'{chosen[bad][0]}',
            'current',
            logging.WARNING,
        )
    scores = [entries[i]['score'] for i in chosen]
    of_image = found[chosen][~bad]
    unused = np.count_nonzero(found >= 0) - len(chosen)
    print_log(
        f'{path}: {len(of_image)} boxes for {len(np.unique(of_image))} of the {wanted.sum()} '
        f'images without boxes; {unused} boxes of images that have boxes are not used',
        'current',
    )
    return FileBoxes(
        len(images), of_image, corners[~bad], np.array(labels)[~bad], np.array(scores)[~bad]
    )


def _corners(boxes: list[list[float]]) -> np.ndarray:
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _check_entries(entries: Any, path: str) -> None:
    """Raise ValueError unless all entries have the keys and types of a results file."""
    if type(entries) is not list:
        hint = ''
        if isinstance(entries, dict) and 'annotations' in entries:
            hint = '; a file with images and annotations is the ann_file of a data set'
        raise ValueError(
            f'{path}: must be a JSON list of results with image_id, category_id, bbox and score, '
            f'got {type(entries).__name__}{hint}'
        )
    where = f'{path}, entry'
    for number, entry in enumerate(entries):
        if type(entry) is not dict:
            raise ValueError(f'{where} number {number}: must be an object, got {entry!r:.80}')
    check_column(entries, where, 'image_id', *ID)
    check_column(entries, where, 'category_id', *ID, default=0)
    check_column(entries, where, 'category_name', *TEXT, default='')
    requirement = 'must be four finite numbers, x, y, width and height'
    check_column(entries, where, 'bbox', (list,), requirement, _is_finite_box)
    check_column(
        entries, where, 'score', NUMBER, 'must be a number in [0, 1]', lambda score: 0 <= score <= 1
    )


def _is_finite_box(box: list) -> bool:
    # The comparison is false for NaN; some ints are too large for a float.
    return len(box) == 4 and all(type(x) in NUMBER and abs(x) < 2**64 for x in box)


def _find_images(entries: list[dict], images: Sequence[ImageEntry], path: str) -> np.ndarray:
    """Return the index of the image of each entry, -1 if the data set does not have the image."""
    index = {str(image.id): i for i, image in enumerate(images)}
    ids = [str(entry['image_id']) for entry in entries]
    if len(index) < len(images):
        counts = Counter(str(image.id) for image in images)
        shared = next((i for i in ids if counts[i] > 1), None)
        if shared is not None:
            raise ValueError(
                f'{path}: {counts[shared]} images of the data set have the image_id {shared!r}, '
                'which must be unique'
            )
    found = np.array([index.get(i, -1) for i in ids], dtype=np.int64)
    unknown = np.flatnonzero(found < 0)
    if len(unknown):
        message = (
            f'{path}: {len(unknown)} of {len(entries)} entries belong to no image of the data set, '
            f'such as number {unknown[0]} with image_id={entries[unknown[0]]["image_id"]!r}'
        )
        if len(unknown) == len(entries):
            raise ValueError(f'{message}; the images have ids such as {images[0].id!r}')
        print_log(f'{message}; they are skipped', 'current', logging.WARNING)
    return found


def _label(entry: dict, categories: Categories, where: str) -> int:
    key, known = 'category_id', categories.by_id
    if entry.get('category_name'):
        key, known = 'category_name', categories.by_name
    elif not known:
        raise ValueError(
            f'{where}: category_name is missing, which a data set without category ids requires; '
            f'the classes are {list(categories.by_name)!r:.80}'
        )
    if key not in entry:
        raise ValueError(f'{where}: category_id is missing')
    if entry[key] not in known:
        raise ValueError(
            f'{where}: {key} {entry[key]!r} is not in the data set, which has {list(known)!r:.80}'
        )
    return known[entry[key]]
