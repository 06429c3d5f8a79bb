"""mmdet's VOC data sets with checks of image sets and XML files."""

import logging
import math
import os.path as osp
from typing import Optional
from xml.etree import ElementTree

import mmcv
from mmdet.datasets import VOCDataset, XMLDataset
from mmengine.fileio import get
from mmengine.logging import print_log

from mmgwap.registry import DATASETS

from .annotation_checks import MAX_COORDINATE, AnnotationChecks, check_classes, is_degenerate
from .files import ImageFinder, read_text

SIDES = ('xmin', 'ymin', 'xmax', 'ymax')


@DATASETS.register_module()
class CheckedXMLDataset(AnnotationChecks, XMLDataset):
    """mmdet's ``XMLDataset`` with the checks of :class:`AnnotationChecks`.

    Images may have any suffix of ``files.IMAGE_SUFFIXES``. If an XML file has no size, or 0, the
    size is read from the image.

    Data infos have ``dropped_labels``: classes of degenerate boxes. The image may show these
    classes.

    Raises:
        FileNotFoundError: if an XML file is missing.
        ValueError: if a file is not XML, or not in VOC's format. The message has the path.
    """

    def load_data_list(self) -> list[dict]:
        """Load the images of an image set, with any image suffix."""
        classes = check_classes(self._metainfo, type(self).__name__)
        self.cat2label = {name: i for i, name in enumerate(classes)}
        finder = ImageFinder(self.backend_args)
        data_list = []
        for img_id in read_ids(self.ann_file, self.backend_args):
            name = osp.join(self.img_subdir, img_id)
            suffix = finder.suffix_of(osp.join(self.sub_data_root, name))
            xml_path = osp.join(self.sub_data_root, self.ann_subdir, f'{img_id}.xml')
            data_list.append(
                self.parse_data_info(
                    dict(img_id=img_id, file_name=name + suffix, xml_path=xml_path)
                )
            )
        return data_list

    def parse_data_info(self, img_info: dict) -> dict:
        path = self._xml_path = img_info['xml_path']
        try:
            data = get(path, backend_args=self.backend_args)
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{path}: missing; {self.ann_file} lists the image {img_info["img_id"]!r}'
            ) from None
        root = parse_xml(data, path)
        img_path = osp.join(self.sub_data_root, img_info['file_name'])
        size = read_size(root, path) or self._size_of_image(img_path)
        self._size = [side or math.inf for side in size]
        self._dropped_labels = set()
        instances = self._parse_instance_info(ElementTree.ElementTree(root))
        return dict(
            img_path=img_path,
            img_id=img_info['img_id'],
            xml_path=path,
            width=size[0],
            height=size[1],
            instances=instances,
            dropped_labels=sorted(self._dropped_labels),
        )

    def _size_of_image(self, img_path: str) -> tuple[int, int]:
        """Return width and height; (0, 0) for an unreadable image that may be skipped."""
        data = get(img_path, backend_args=self.backend_args)
        try:
            # Turned by the EXIF orientation, as the pipelines load it.
            image = mmcv.imfrombytes(data, backend='pillow')
        except Exception as error:  # each format has its own exceptions
            message = f'{self._xml_path}: has no size, and {img_path} cannot be read: {error}'
            if self.on_bad_image != 'skip':
                raise ValueError(message) from None
            print_log(message, 'current', logging.WARNING)
            return 0, 0
        return image.shape[1], image.shape[0]

    def _parse_instance_info(
        self, raw_ann_info: ElementTree.ElementTree, minus_one: bool = True
    ) -> list[dict]:
        root = raw_ann_info.getroot()
        objects = root.findall('object')
        self._check_box_count(len(objects), self._xml_path)
        names, boxes = [], []
        for number, obj in enumerate(objects, 1):
            name, box = read_object(obj, f'{self._xml_path}, object {number}')
            if name not in self.cat2label:
                self._check_category(name, self._xml_path)
            names.append(name)
            # mmdet reads whole pixels, counted from 0 with minus_one.
            boxes.append([math.trunc(x) - minus_one if math.isfinite(x) else x for x in box])
        bad = is_degenerate(boxes, *self._size)
        if bad.any():
            self._dropped[self._xml_path] = int(bad.sum())
        for obj, name, is_bad in zip(objects, names, bad):
            if is_bad:
                root.remove(obj)
                if name in self.cat2label:
                    self._dropped_labels.add(self.cat2label[name])
        return super()._parse_instance_info(raw_ann_info, minus_one)


@DATASETS.register_module()
class CheckedVOCDataset(CheckedXMLDataset, VOCDataset):
    """mmdet's ``VOCDataset`` with the checks of :class:`AnnotationChecks`."""


@DATASETS.register_module()
class UnannotatedVOCDataset(CheckedVOCDataset):
    """Test images of VOC without annotations, as its evaluation server distributes them.

    XML files are not read, even if they exist.

    Args:
        ann_file, data_prefix, pipeline, ...: as for mmdet's ``VOCDataset``.

    Raises:
        ValueError: if ``test_mode`` is not set.
    """

    def __init__(self, *args, test_mode: bool = False, **kwargs) -> None:
        if not test_mode:
            raise ValueError('UnannotatedVOCDataset has no boxes to train on; set test_mode=True')
        super().__init__(*args, test_mode=test_mode, **kwargs)

    def parse_data_info(self, img_info: dict) -> dict:
        return dict(
            img_id=img_info['img_id'],
            instances=[],
            img_path=osp.join(self.sub_data_root, img_info['file_name']),
        )


def read_ids(path: str, backend_args: Optional[dict] = None) -> list[str]:
    """Read the image ids of a VOC image set, one per line; blank lines are skipped.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is not text, or an id is repeated. The message has the line.
    """
    ids = {}
    lines = read_text(path, backend_args).splitlines()
    for number, line in enumerate(map(str.strip, lines), 1):
        if line in ids:
            raise ValueError(f'{path}, line {number}: {line} is listed twice')
        if line:
            ids[line] = None
    return list(ids)


def parse_xml(data: bytes, where: str) -> ElementTree.Element:
    """Parse XML and return its root; raise ValueError if it is invalid."""
    try:
        return ElementTree.fromstring(data)
    # Unknown encodings raise LookupError or ValueError.
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f'{where}: invalid XML: {error}') from None


def read_size(root: ElementTree.Element, where: str) -> Optional[tuple[int, int]]:
    """Read width and height; return None if they are missing or 0.

    Some labelling tools write 0 for an unknown size.

    Raises:
        ValueError: if the values are not numbers of pixels.
    """
    if root.find('size') is None:
        return None
    size = _only_child(root, 'size', where)
    width, height = (_read_number(size, side, where) for side in ('width', 'height'))
    if width == 0 or height == 0:
        return None
    if not (1 <= width < MAX_COORDINATE and 1 <= height < MAX_COORDINATE):
        raise ValueError(f'{where}: <size> must be 1 pixel or more, got {width:g} x {height:g}')
    return int(width), int(height)


def read_object(obj: ElementTree.Element, where: str) -> tuple[str, list[float]]:
    """Read name and corners of an object, as stored in the file.

    Raises:
        ValueError: if an element is missing, repeated or malformed, or ``<difficult>`` is neither
            0 nor 1.
    """
    name = _only_child(obj, 'name', where).text
    if not name:
        raise ValueError(f'{where}: <name> is empty')
    if obj.find('difficult') is not None:
        text = _only_child(obj, 'difficult', where).text
        if str(text).strip() not in ('0', '1'):
            raise ValueError(f'{where}: <difficult> must be 0 or 1, got {text!r:.80}')
    box = _only_child(obj, 'bndbox', where)
    return name, [_read_number(box, side, where) for side in SIDES]


def _only_child(element: ElementTree.Element, tag: str, where: str) -> ElementTree.Element:
    children = element.findall(tag)
    if len(children) != 1:
        raise ValueError(
            f'{where}: <{element.tag}> must have one <{tag}>, got {len(children) or "none"}'
        )
    return children[0]


def _read_number(element: ElementTree.Element, tag: str, where: str) -> float:
    text = _only_child(element, tag, where).text
    try:
        return float(text)
    except (TypeError, ValueError):
        raise ValueError(f'{where}: <{tag}> must be a number, got {text!r:.80}') from None
