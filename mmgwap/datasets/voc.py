"""mmdet's VOC data sets, with bad input named instead of passed on."""

import logging
import math
import os.path as osp
from xml.etree import ElementTree

import mmcv
from mmdet.datasets import VOCDataset, XMLDataset
from mmengine.fileio import get
from mmengine.logging import print_log

from mmgwap.registry import DATASETS

from .annotation_checks import AnnotationChecks
from .box_limit import BoxLimit
from .class_names import check_classes
from .degenerate import is_degenerate
from .image_suffixes import ImageSuffixes
from .xml_file import parse_xml, read_ids, read_object, read_size


@DATASETS.register_module()
class CheckedXMLDataset(AnnotationChecks, BoxLimit, XMLDataset):
    """mmdet's ``XMLDataset`` with the checks of :class:`AnnotationChecks`.

    Images may be PNG or others as well, see :class:`ImageSuffixes`.  The size
    of one whose XML has none, or 0, is the image's own.

    Args:
        max_boxes_per_image (int): more are an error, see :class:`BoxLimit`.

    Raises:
        FileNotFoundError: if an XML file is missing.
        ValueError: also if a file is not XML, or not as VOC's; with its path.
    """

    def load_data_list(self) -> list[dict]:
        """As mmdet's, for images of any suffix."""
        classes = check_classes(self._metainfo, type(self).__name__)
        self.cat2label = {name: i for i, name in enumerate(classes)}
        suffixes = ImageSuffixes(self.backend_args)
        data_list = []
        for img_id in read_ids(self.ann_file, self.backend_args):
            name = osp.join(self.img_subdir, img_id)
            suffix = suffixes.of(osp.join(self.sub_data_root, name))
            data_list.append(
                self.parse_data_info(
                    dict(
                        img_id=img_id,
                        file_name=name + suffix,
                        xml_path=osp.join(self.sub_data_root, self.ann_subdir, f'{img_id}.xml'),
                    )
                )
            )
        return data_list

    def parse_data_info(self, img_info: dict) -> dict:
        path = self._xml_path = img_info['xml_path']
        try:
            data = get(path, backend_args=self.backend_args)
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{path}: missing, the annotation of {img_info["img_id"]!r} in {self.ann_file}'
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
        """Width and height; 0 for one that may be skipped."""
        data = get(img_path, backend_args=self.backend_args)
        try:
            # As the pipelines turn it by its EXIF orientation.
            image = mmcv.imfrombytes(data, backend='pillow')
        except Exception as error:  # each format has errors of its own
            what = f'{self._xml_path}: has no size, and {img_path} cannot be read: {error}'
            if self.on_bad_image != 'skip':
                raise ValueError(what) from None
            print_log(what, 'current', logging.WARNING)
            return 0, 0
        return image.shape[1], image.shape[0]

    def _parse_instance_info(
        self, raw_ann_info: ElementTree.ElementTree, minus_one: bool = True
    ) -> list[dict]:
        root = raw_ann_info.getroot()
        objects = root.findall('object')
        self._check_count(len(objects), self._xml_path)
        names, boxes = [], []
        for number, obj in enumerate(objects, 1):
            name, box = read_object(obj, f'{self._xml_path}, object {number}')
            if name not in self.cat2label:
                self._check_category(name, self._xml_path)
            names.append(name)
            # As mmdet will read it: whole pixels, from 0 with minus_one.
            boxes.append([math.trunc(x) - minus_one if math.isfinite(x) else x for x in box])
        bad = is_degenerate(boxes, *self._size)
        if bad.any():
            self._dropped[self._xml_path] = int(bad.sum())
        for obj, name, is_bad in zip(objects, names, bad):
            if is_bad:
                root.remove(obj)
                # Its class may be on the image all the same.
                if name in self.cat2label:
                    self._dropped_labels.add(self.cat2label[name])
        return super()._parse_instance_info(raw_ann_info, minus_one)


@DATASETS.register_module()
class CheckedVOCDataset(CheckedXMLDataset, VOCDataset):
    """mmdet's ``VOCDataset`` with the checks of :class:`AnnotationChecks`."""
