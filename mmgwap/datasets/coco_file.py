"""COCO's annotation files: what is wrong in one is said before it is used.

pycocotools takes what comes.  Annotations without an image are dropped without
a word, of two entries with an id the last one wins, and what is missing
becomes a bare ``KeyError`` somewhere else.  The format:
https://cocodataset.org, "Data format".
"""

import logging
from collections import Counter
from itertools import chain
from typing import Any, Callable

from mmengine.logging import print_log

from .degenerate import HUGE

MISSING = object()
ID = (int, str), 'must be a whole number or text'
TEXT = (str,), 'must be text, and not empty'
NUMBER = (int, float)


def check_coco(content: Any, where: str, annotated: bool = True) -> None:
    """Refuse a file that is not as COCO's, and complete what may be missing.

    An annotation without ``area`` gets that of its box, one without ``iscrowd``
    is a single object, and one of an image that the file does not have is left
    out; each with one warning.  Boxes without area, not finite or off the image
    are for the data set to drop.

    Args:
        content: of the file; its ``annotations`` are changed as above.
        where (str): the file, for errors.
        annotated (bool): whether ``annotations`` have to be there.

    Raises:
        ValueError: if a key is missing or has a value of another kind, an id
            or the name of a category comes twice, or no annotation has an
            image.
    """
    images, _, annotations = read_entries(content, where, annotated)
    for side in ('width', 'height'):
        column(
            images,
            f'{where}, image',
            side,
            NUMBER,
            'must be a number of pixels above 0',
            lambda value: 0 < value < HUGE,
        )
    _tell_of_same_files(images, where)
    if annotations:
        _check_boxes(annotations, f'{where}, annotation')
        _fill(annotations, where, 'area', _area, 'that of the box is taken')
        _fill(annotations, where, 'iscrowd', lambda one: 0, 'they count as single objects')
        content['annotations'] = _of_images(annotations, images, where)


def read_entries(
    content: Any, where: str, annotated: bool = True
) -> tuple[list[dict], list[dict], list[dict]]:
    """Images, categories and annotations, with sound ids and names.

    Arguments and errors are those of :func:`check_coco`; sizes and boxes are
    not looked at.
    """
    if not isinstance(content, dict):
        raise ValueError(
            f'{where}: must be a JSON object with images, '
            'categories and annotations, got '
            f'{type(content).__name__}'
        )
    images = _list(content, 'images', f'{where}, image')
    categories = _list(content, 'categories', f'{where}, category')
    annotations = []
    if annotated or 'annotations' in content:
        annotations = _list(content, 'annotations', f'{where}, annotation')
    column(images, f'{where}, image', 'file_name', *TEXT, len)
    _unique(
        column(categories, f'{where}, category', 'name', *TEXT, len), f'{where}, category', 'name'
    )
    for key in ('image_id', 'category_id'):
        column(annotations, f'{where}, annotation', key, *ID)
    return images, categories, annotations


def _list(content: dict, name: str, what: str) -> list[dict]:
    """Entries of a list, each an object with an id of its own."""
    entries = content.get(name, MISSING)
    if type(entries) is not list:
        raise ValueError(f'{what.split(", ")[0]}: {name} must be a list{_told(entries)}')
    if not set(map(type, entries)) <= {dict}:
        place, entry = next(
            (place, entry) for place, entry in enumerate(entries) if type(entry) is not dict
        )
        raise ValueError(f'{what} number {place}: must be an object{_told(entry)}')
    ids = column(entries, what, 'id', *ID)
    _unique(ids, what, 'id')
    kinds = {type(value).__name__ for value in ids}
    if len(kinds) > 1:
        raise ValueError(f'{what}: the ids must be of one type, got {" and ".join(sorted(kinds))}')
    return entries


def column(
    entries: list[dict],
    what: str,
    key: str,
    types: tuple,
    must: str,
    good: Callable = None,
    default: Any = MISSING,
) -> list:
    """Values of a key; the first entry whose value is not good is named.

    Args:
        entries (list[dict]): of the file.
        what (str): the file, and what an entry is.
        key (str): that they have.
        types (tuple[type]): of the values, and no subclasses: True is no
            number.
        must (str): what they have to be.
        good (callable): says whether a value of these types is.
        default: value of entries without the key.

    Raises:
        ValueError: if one is not.
    """
    values = [entry.get(key, default) for entry in entries]
    if set(map(type, values)) <= set(types) and (good is None or all(map(good, values))):
        return values
    for place, (entry, value) in enumerate(zip(entries, values)):
        if type(value) not in types or good and not good(value):
            name = entry.get('id')
            name = repr(name) if type(name) in ID[0] else f'number {place}'
            raise ValueError(f'{what} {name}: {key} {must}{_told(value)}')


def _told(value: Any) -> str:
    """A value, cut to what fits into a line."""
    if value is MISSING:
        return ', and is missing'
    text = repr(value)
    return f', got {text if len(text) < 80 else f"{text[:76]} ..."}'


def _unique(values: list, what: str, key: str) -> None:
    if len(set(values)) < len(values):
        value, count = Counter(values).most_common(1)[0]
        raise ValueError(f'{what} {value!r}: {count} have this {key}; each needs one of its own')


def _is_number(value: Any) -> bool:
    # There are whole numbers that are too large for any float.
    return type(value) is float or type(value) is int and abs(value) < 2**64


def _area(annotation: dict) -> float:
    return annotation['bbox'][2] * annotation['bbox'][3]


def _tell_of_same_files(images: list[dict], where: str) -> None:
    names = Counter(image['file_name'] for image in images)
    again = len(images) - len(names)
    if again:
        print_log(
            f'{where}: {again} images have the file_name of another, such as '
            f'{names.most_common(1)[0][0]!r}; each is an image of its own, '
            'with its own annotations alone',
            'current',
            logging.WARNING,
        )


def _check_boxes(annotations: list[dict], what: str) -> None:
    boxes = [one.get('bbox') for one in annotations]
    # Of a million boxes each is looked at only if one is not right.
    plain = (
        set(map(type, boxes)) == {list}
        and set(map(len, boxes)) == {4}
        and set(map(type, chain.from_iterable(boxes))) == {float}
    )
    if not plain:
        column(
            annotations,
            what,
            'bbox',
            (list,),
            'must be four numbers, x, y, width and height',
            lambda box: len(box) == 4 and all(map(_is_number, box)),
        )
    for key in ('iscrowd', 'ignore'):
        column(
            annotations, what, key, (int, bool), 'must be 0 or 1', (0, 1).__contains__, default=0
        )
    column(
        annotations,
        what,
        'segmentation',
        (list, dict, type(None)),
        'must be polygons or an RLE',
        default=None,
    )
    column(annotations, what, 'area', NUMBER, 'must be a number of pixels', default=0)


def _fill(annotations: list[dict], where: str, key: str, value: Callable, taken: str) -> None:
    """Give annotations without a key what most files without it mean."""
    bare = [one for one in annotations if key not in one]
    for one in bare:
        one[key] = value(one)
    if bare:
        print_log(
            f'{where}: {len(bare)} annotations have no {key}, such as '
            f'{bare[0]["id"]!r}; {taken}, but CocoMetric needs it in the file '
            'that it reads',
            'current',
            logging.WARNING,
        )


def _of_images(annotations: list[dict], images: list[dict], where: str) -> list[dict]:
    """Annotations without those of images that the file does not have."""
    known = {one['id'] for one in images}
    kept = [one for one in annotations if one['image_id'] in known]
    if len(kept) == len(annotations):
        return annotations
    lost = next(one for one in annotations if one['image_id'] not in known)
    what = (
        f'{where}: {len(annotations) - len(kept)} of {len(annotations)} '
        'annotations are of images that it does not have, such as '
        f'annotation {lost["id"]!r} of image {lost["image_id"]!r}'
    )
    if images and not kept:
        raise ValueError(f'{what}; its images have ids such as {images[0]["id"]!r}')
    print_log(f'{what}; they are left out', 'current', logging.WARNING)
    return kept
