"""mmdet's COCO and VOC data sets, with bad input named instead of passed on.

mmdet drops some bad boxes without a word, trains on others until the loss is
NaN, skips categories that the config does not list, and misnames labels when
the config lists classes that the file lacks, or has in another order.
"""
import logging
import math
from typing import List
from xml.etree import ElementTree

import numpy as np
from mmdet.datasets import CocoDataset, VOCDataset, XMLDataset
from mmengine.logging import print_log

from mmgwap.registry import DATASETS

from .degenerate import WHAT, is_degenerate
from .naming import naming


class AnnotationChecks:
    """Mixin for a ``BaseDetDataset``: checks at loading time.

    * Degenerate boxes are dropped, with one warning for the data set that
      counts them and names the first file.
    * An object of a category that the config does not list is an error, unless
      ``unlisted_categories='ignore'``, which trains on a subset of classes.
    * A data set without images is an error.
    * What fails while a sample is read is raised with the image's path.

    Args:
        unlisted_categories (str): 'error' or 'ignore'.
    """

    def __init__(self, *args, unlisted_categories: str = 'error',
                 **kwargs) -> None:
        if unlisted_categories not in ('error', 'ignore'):
            raise ValueError("unlisted_categories must be 'error' or 'ignore',"
                             f' got {unlisted_categories!r}')
        self.unlisted_categories = unlisted_categories
        self._dropped = {}  # file: number of degenerate boxes
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        super().full_init()
        if self._dropped:
            print_log(
                f'{self.ann_file}: dropped {sum(self._dropped.values())} boxes'
                f' {WHAT}, in {len(self._dropped)} images, the first in '
                f'{next(iter(self._dropped))}', 'current', logging.WARNING)

    def filter_data(self) -> List[dict]:
        data_list = super().filter_data()
        if not data_list:
            raise ValueError(
                f'{self.ann_file}: no image is left to '
                f'{"test" if self.test_mode else "train"} on (filter_cfg='
                f'{self.filter_cfg}, classes={self.metainfo["classes"]})')
        return data_list

    def prepare_data(self, idx: int) -> dict:
        with naming(self.get_data_info(idx).get('img_path')):
            return super().prepare_data(idx)

    def _check_category(self, name: str, where: str) -> None:
        """Refuse an object of a category that the config does not list."""
        if self.unlisted_categories == 'error' \
                and name not in self.metainfo['classes']:
            raise ValueError(
                f'{where}: category {name!r} is not among the classes of the '
                f'config, {self.metainfo["classes"]}; list it in metainfo='
                "dict(classes=...), or set unlisted_categories='ignore'")


@DATASETS.register_module()
class CheckedCocoDataset(AnnotationChecks, CocoDataset):
    """mmdet's ``CocoDataset`` with the checks of :class:`AnnotationChecks`.

    Raises:
        ValueError: also if the file lacks a class of the config, or has them
            in another order.
    """
    _order_checked = False

    def _check_order(self) -> None:
        """mmdet numbers labels by the file, and names them by the config."""
        found = tuple(self.coco.cats[i]['name'] for i in self.cat_ids)
        if found != tuple(self.metainfo['classes']):
            raise ValueError(
                f'{self.ann_file}: has of the classes of the config, '
                f'{self.metainfo["classes"]}, these in this order: {found}; '
                'list the same in metainfo=dict(classes=...)')
        self._order_checked = True

    def parse_data_info(self, raw_data_info: dict) -> dict:
        if not self._order_checked:
            self._check_order()
        image = raw_data_info['raw_img_info']
        boxes = [ann for ann in raw_data_info['raw_ann_info']
                 if not ann.get('ignore', False)]
        for ann in boxes:
            category = self.coco.cats.get(ann['category_id'], {})
            self._check_category(
                category.get('name', f'id {ann["category_id"]}'),
                f'{self.ann_file}, annotation {ann.get("id")}')
        # As mmdet: a box of less than a pixel is none.
        bad = is_degenerate([_corners(ann['bbox']) for ann in boxes],
                            image['width'], image['height'], min_size=1)
        bad |= np.array([not ann['area'] > 0 for ann in boxes], dtype=bool)
        if bad.any():
            self._dropped[image['file_name']] = int(bad.sum())
        good = [ann for ann, is_bad in zip(boxes, bad) if not is_bad]
        info = super().parse_data_info(dict(raw_data_info, raw_ann_info=good))
        # Their classes may be on the image all the same.
        kept = {id(ann) for ann in good}
        info['dropped_labels'] = sorted({
            self.cat2label[ann['category_id']]
            for ann in raw_data_info['raw_ann_info']
            if id(ann) not in kept and ann['category_id'] in self.cat2label})
        return info


def _corners(bbox: list) -> list:
    x, y, w, h = bbox
    return [x, y, x + w, y + h]


@DATASETS.register_module()
class CheckedXMLDataset(AnnotationChecks, XMLDataset):
    """mmdet's ``XMLDataset`` with the checks of :class:`AnnotationChecks`."""

    def parse_data_info(self, img_info: dict) -> dict:
        self._xml_path = img_info['xml_path']
        self._dropped_labels = set()
        info = super().parse_data_info(img_info)
        info['dropped_labels'] = sorted(self._dropped_labels)
        return info

    def _parse_instance_info(self, raw_ann_info: ElementTree,
                             minus_one: bool = True) -> List[dict]:
        root = raw_ann_info.getroot()
        # Some labelling tools write 0 for a size that they do not know.
        width, height = (float(root.findtext(f'size/{side}') or 0) or math.inf
                         for side in ('width', 'height'))
        objects = root.findall('object')
        for obj in objects:
            self._check_category(obj.findtext('name'), self._xml_path)
        bad = is_degenerate([_xml_box(obj, minus_one) for obj in objects],
                            width, height)
        if bad.any():
            self._dropped[self._xml_path] = int(bad.sum())
        for obj, is_bad in zip(objects, bad):
            if is_bad:
                root.remove(obj)
                # Its class may be on the image all the same.
                if obj.findtext('name') in self.cat2label:
                    self._dropped_labels.add(
                        self.cat2label[obj.findtext('name')])
        return super()._parse_instance_info(raw_ann_info, minus_one)


def _xml_box(obj: ElementTree.Element, minus_one: bool) -> list:
    """Box as mmdet will read it: whole pixels, from 0 with ``minus_one``."""
    box = [float(obj.findtext(f'bndbox/{side}'))
           for side in ('xmin', 'ymin', 'xmax', 'ymax')]
    return [math.trunc(x) - minus_one if math.isfinite(x) else x for x in box]


@DATASETS.register_module()
class CheckedVOCDataset(CheckedXMLDataset, VOCDataset):
    """mmdet's ``VOCDataset`` with the checks of :class:`AnnotationChecks`."""
