"""mmdet's COCO data set, with bad input named instead of passed on.

mmdet misnames labels when the config lists classes that the file lacks, or has
in another order.
"""
import numpy as np
from mmdet.datasets import CocoDataset

from mmgwap.registry import DATASETS

from .annotation_checks import AnnotationChecks
from .degenerate import is_degenerate


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
