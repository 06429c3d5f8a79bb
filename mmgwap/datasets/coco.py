"""mmdet's COCO data set with checks of the annotation file.

pycocotools accepts faulty files: it drops annotations without an image silently, keeps the last of
two entries with the same id, and raises a bare ``KeyError`` for missing keys. mmdet misnames labels
when the config lists classes that the file lacks or orders differently. The format is described at
https://cocodataset.org, "Data format".
"""

import logging
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmengine.logging import print_log

from mmgwap.registry import DATASETS

from .annotation_checks import MAX_COORDINATE, AnnotationChecks, check_classes, is_degenerate
from .files import parse_json

MISSING = object()
# Types of values, and the rest of the error message "KEY must be ...".
ID = (int, str), 'must be an int or a string'
TEXT = (str,), 'must be a non-empty string'
NUMBER = (int, float)


@DATASETS.register_module()
class CheckedCocoDataset(AnnotationChecks, CocoDataset):
    """mmdet's ``CocoDataset`` with the checks of :class:`AnnotationChecks`.

    The whole file is checked at loading time, see :func:`check_coco`. With ``test_mode`` it may
    lack ``annotations``, as COCO's test-dev does.

    Data infos have ``dropped_labels``: classes of boxes that were dropped or ignored. The image
    may show these classes.

    Raises:
        ValueError: if the file is not in COCO's format, lacks a class of the config, or has the
            classes in another order.
    """

    _order_checked = False

    def COCOAPI(self, local_path: str) -> COCO:
        """Build the index of the checked file.

        mmdet calls ``self.COCOAPI(path)``, where ``COCOAPI`` usually is a class.
        """
        check_classes(self._metainfo, type(self).__name__)
        content = parse_json(Path(local_path).read_bytes(), self.ann_file)
        check_coco(content, self.ann_file, annotated=not self.test_mode)
        index = COCO()
        index.dataset = content
        index.createIndex()
        # mmdet's constructor sets these too.
        index.img_ann_map, index.cat_img_map = index.imgToAnns, index.catToImgs
        for image, annotations in index.imgToAnns.items():
            self._check_box_count(len(annotations), f'{self.ann_file}, image {image!r}')
        return index

    def parse_data_info(self, raw_data_info: dict) -> dict:
        if not self._order_checked:
            self._check_order()
        annotations = raw_data_info['raw_ann_info']
        boxes = [ann for ann in annotations if not ann.get('ignore', False)]
        for ann in boxes:
            if ann['category_id'] not in self.cat2label:
                category = self.coco.cats.get(ann['category_id'], {})
                self._check_category(
                    category.get('name', f'id {ann["category_id"]!r}'),
                    f'{self.ann_file}, annotation {ann["id"]!r}',
                )
        bad = _is_bad(boxes, raw_data_info['raw_img_info'])
        if bad.any():
            self._dropped[raw_data_info['raw_img_info']['file_name']] = int(bad.sum())
        good = [ann for ann, is_bad in zip(boxes, bad) if not is_bad]
        info = super().parse_data_info(dict(raw_data_info, raw_ann_info=good))
        kept = {id(ann) for ann in good}
        dropped = {ann['category_id'] for ann in annotations if id(ann) not in kept}
        info['dropped_labels'] = sorted(
            self.cat2label[category] for category in dropped if category in self.cat2label
        )
        return info

    def _check_order(self) -> None:
        """Compare the classes: mmdet numbers labels by the file and names them by the config."""
        found = tuple(self.coco.cats[i]['name'] for i in self.cat_ids)
        if found != tuple(self.metainfo['classes']):
            raise ValueError(
                f'{self.ann_file}: the classes of the config, {self.metainfo["classes"]}, differ '
                f'in number or order from those found in the file, {found}; list the same in '
                'metainfo=dict(classes=...)'
            )
        self._order_checked = True


def _is_bad(boxes: list[dict], image: dict) -> np.ndarray:
    """Find degenerate boxes, and boxes that mmdet drops for a side or an area below a pixel."""
    corners = [[x, y, x + w, y + h] for x, y, w, h in (ann['bbox'] for ann in boxes)]
    small = [min(ann['bbox'][2:]) < 1 or not ann['area'] > 0 for ann in boxes]
    return is_degenerate(corners, image['width'], image['height']) | np.array(small, dtype=bool)


def check_coco(content: Any, where: str, annotated: bool = True) -> None:
    """Check the content of a COCO file, and add optional keys that are missing.

    A missing ``area`` becomes the area of the box, a missing ``iscrowd`` becomes 0, and annotations
    whose image is not in the file are removed; each case is counted in one warning. Degenerate
    boxes are left to the data set.

    Args:
        content: content of the file; ``annotations`` are changed in place.
        where (str): path of the file, for errors.
        annotated (bool): whether ``annotations`` are required.

    Raises:
        ValueError: if a key is missing or has a value of another type, if an id or a category name
            is repeated, or if no annotation belongs to an image of the file.
    """
    images, _, annotations = read_entries(content, where, annotated)
    for side in ('width', 'height'):
        check_column(
            images,
            f'{where}, image',
            side,
            NUMBER,
            'must be a number of pixels above 0',
            lambda value: 0 < value < MAX_COORDINATE,
        )
    _warn_of_shared_files(images, where)
    if annotations:
        _check_annotations(annotations, f'{where}, annotation')
        _fill_missing(annotations, where, 'area', _area, 'the area of the box')
        _fill_missing(annotations, where, 'iscrowd', lambda annotation: 0, '0')
        content['annotations'] = _drop_orphans(annotations, images, where)


def read_entries(
    content: Any, where: str, annotated: bool = True
) -> tuple[list[dict], list[dict], list[dict]]:
    """Return images, categories and annotations with valid ids and names.

    Arguments and errors are those of :func:`check_coco`. Sizes and boxes are not checked.
    """
    if not isinstance(content, dict):
        raise ValueError(
            f'{where}: must be a JSON object with images, categories and annotations, got '
            f'{type(content).__name__}'
        )
    images = _entries(content, 'images', where, 'image')
    categories = _entries(content, 'categories', where, 'category')
    annotations = []
    if annotated or 'annotations' in content:
        annotations = _entries(content, 'annotations', where, 'annotation')
    check_column(images, f'{where}, image', 'file_name', *TEXT, len)
    names = check_column(categories, f'{where}, category', 'name', *TEXT, len)
    _check_unique(names, f'{where}, category', 'name')
    for key in ('image_id', 'category_id'):
        check_column(annotations, f'{where}, annotation', key, *ID)
    return images, categories, annotations


def _entries(content: dict, key: str, where: str, kind: str) -> list[dict]:
    """Return a list of objects with unique ids."""
    entries, where_entry = content.get(key, MISSING), f'{where}, {kind}'
    if type(entries) is not list:
        raise ValueError(f'{where}: {key} must be a list{_but_got(entries)}')
    for index, entry in enumerate(entries):
        if type(entry) is not dict:
            raise ValueError(f'{where_entry} number {index}: must be an object{_but_got(entry)}')
    ids = check_column(entries, where_entry, 'id', *ID)
    _check_unique(ids, where_entry, 'id')
    types = sorted({type(value).__name__ for value in ids})
    if len(types) > 1:
        raise ValueError(f'{where_entry}: the ids must have one type, got {" and ".join(types)}')
    return entries


def check_column(
    entries: list[dict],
    where: str,
    key: str,
    types: tuple,
    requirement: str,
    is_valid: Optional[Callable] = None,
    default: Any = MISSING,
) -> list:
    """Return the values of a key; raise ValueError at the first invalid value.

    Args:
        entries (list[dict]): entries of the file.
        where (str): path of the file and kind of entry, for errors.
        key (str): key of the entries.
        types (tuple[type]): types of valid values, without subclasses: a bool is not a number.
        requirement (str): text for errors, beginning with "must be".
        is_valid (callable): further check of a value of these types.
        default: value of entries without the key.
    """
    values = [entry.get(key, default) for entry in entries]
    # The loop below is slow for millions of entries, and only needed for errors.
    if set(map(type, values)) <= set(types) and (is_valid is None or all(map(is_valid, values))):
        return values
    for index, (entry, value) in enumerate(zip(entries, values)):
        if type(value) not in types or is_valid and not is_valid(value):
            name = entry.get('id')
            name = repr(name) if type(name) in ID[0] else f'number {index}'
            raise ValueError(f'{where} {name}: {key} {requirement}{_but_got(value)}')


def _but_got(value: Any) -> str:
    if value is MISSING:
        return ', but is missing'
    text = repr(value)
    return f', got {text if len(text) < 80 else f"{text[:76]} ..."}'


def _check_unique(values: list, where: str, key: str) -> None:
    if len(set(values)) < len(values):
        value, count = Counter(values).most_common(1)[0]
        raise ValueError(f'{where} {value!r}: {count} entries have this {key}; it must be unique')


def _warn_of_shared_files(images: list[dict], where: str) -> None:
    names = Counter(image['file_name'] for image in images)
    repeated = len(images) - len(names)
    if repeated:
        print_log(
            f'{where}: {repeated} images repeat a file_name, such as '
            f'{names.most_common(1)[0][0]!r}; each keeps only its own annotations',
            'current',
            logging.WARNING,
        )


def _check_annotations(annotations: list[dict], where: str) -> None:
    boxes = [annotation.get('bbox') for annotation in annotations]
    # The usual case, checked without a Python loop over millions of boxes.
    plain = (
        set(map(type, boxes)) == {list}
        and set(map(len, boxes)) == {4}
        and set(map(type, chain.from_iterable(boxes))) == {float}
    )
    if not plain:
        requirement = 'must be four numbers, x, y, width and height'
        check_column(annotations, where, 'bbox', (list,), requirement, _is_box)
    for key in ('iscrowd', 'ignore'):
        check_column(
            annotations, where, key, (int, bool), 'must be 0 or 1', (0, 1).__contains__, default=0
        )
    types = (list, dict, type(None))
    check_column(
        annotations, where, 'segmentation', types, 'must be polygons or an RLE', default=None
    )
    check_column(annotations, where, 'area', NUMBER, 'must be a number of pixels', default=0)


def _is_box(box: list) -> bool:
    # Some ints are too large for a float.
    return len(box) == 4 and all(
        type(value) is float or type(value) is int and abs(value) < 2**64 for value in box
    )


def _area(annotation: dict) -> float:
    return annotation['bbox'][2] * annotation['bbox'][3]


def _fill_missing(
    annotations: list[dict], where: str, key: str, value: Callable, default: str
) -> None:
    """Set a key where it is missing, with one warning."""
    incomplete = [annotation for annotation in annotations if key not in annotation]
    for annotation in incomplete:
        annotation[key] = value(annotation)
    if incomplete:
        print_log(
            f'{where}: {len(incomplete)} annotations have no {key}, such as '
            f'{incomplete[0]["id"]!r}; it is set to {default}, but CocoMetric needs it in the file '
            'that it reads',
            'current',
            logging.WARNING,
        )


def _drop_orphans(annotations: list[dict], images: list[dict], where: str) -> list[dict]:
    """Remove annotations whose image is not in the file."""
    known = {image['id'] for image in images}
    kept = [annotation for annotation in annotations if annotation['image_id'] in known]
    if len(kept) == len(annotations):
        return annotations
    orphan = next(ann for ann in annotations if ann['image_id'] not in known)
    message = (
        f'{where}: {len(annotations) - len(kept)} of {len(annotations)} annotations belong to no '
        f'image of the file, such as annotation {orphan["id"]!r} of image {orphan["image_id"]!r}'
    )
    if images and not kept:
        raise ValueError(f'{message}; the images have ids such as {images[0]["id"]!r}')
    print_log(f'{message}; they are left out', 'current', logging.WARNING)
    return kept
