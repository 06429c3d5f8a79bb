"""mmdet's VOC data sets, with bad input named instead of passed on."""
import math
from typing import List
from xml.etree import ElementTree

from mmdet.datasets import VOCDataset, XMLDataset

from mmgwap.registry import DATASETS

from .annotation_checks import AnnotationChecks
from .degenerate import is_degenerate


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
