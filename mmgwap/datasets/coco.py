"""mmdet's COCO data set, with bad input named instead of passed on.

mmdet misnames labels when the config lists classes that the file lacks, or has
in another order.
"""

from pathlib import Path

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO

from mmgwap.registry import DATASETS

from .annotation_checks import AnnotationChecks
from .box_limit import BoxLimit
from .class_names import check_classes
from .coco_file import check_coco
from .degenerate import is_degenerate
from .text_files import parse_json


@DATASETS.register_module()
class CheckedCocoDataset(AnnotationChecks, BoxLimit, CocoDataset):
    """mmdet's ``CocoDataset`` with the checks of :class:`AnnotationChecks`.

    The file is checked as a whole before it is used, see
    :func:`mmgwap.datasets.coco_file.check_coco`.  With ``test_mode`` it may
    have no ``annotations``, as COCO's test-dev.

    Args:
        max_boxes_per_image (int): more are an error, see :class:`BoxLimit`.

    Raises:
        ValueError: also if the file is not as COCO's, lacks a class of the
            config, or has them in another order.
    """

    _order_checked = False

    def COCOAPI(self, local_path: str) -> COCO:
        """mmdet's index of a file, which it calls for where others have a
        class."""
        check_classes(self._metainfo, type(self).__name__)
        content = parse_json(Path(local_path).read_bytes(), self.ann_file)
        check_coco(content, self.ann_file, annotated=not self.test_mode)
        index = COCO()
        index.dataset = content
        index.createIndex()
        # As mmdet's constructor.
        index.img_ann_map, index.cat_img_map = index.imgToAnns, index.catToImgs
        for image, annotations in index.imgToAnns.items():
            self._check_count(len(annotations), f'{self.ann_file}, image {image!r}')
        return index

    def _check_order(self) -> None:
        """mmdet numbers labels by the file, and names them by the config."""
        found = tuple(self.coco.cats[i]['name'] for i in self.cat_ids)
        if found != tuple(self.metainfo['classes']):
            raise ValueError(
                f'{self.ann_file}: has of the classes of the config, '
                f'{self.metainfo["classes"]}, these in this order: {found}; '
                'list the same in metainfo=dict(classes=...)'
            )
        self._order_checked = True

    def parse_data_info(self, raw_data_info: dict) -> dict:
        if not self._order_checked:
            self._check_order()
        image = raw_data_info['raw_img_info']
        boxes = [ann for ann in raw_data_info['raw_ann_info'] if not ann.get('ignore', False)]
        for ann in boxes:
            if ann['category_id'] not in self.cat2label:
                category = self.coco.cats.get(ann['category_id'], {})
                self._check_category(
                    category.get('name', f'id {ann["category_id"]!r}'),
                    f'{self.ann_file}, annotation {ann["id"]!r}',
                )
        bad = is_degenerate(
            [_corners(ann['bbox']) for ann in boxes], image['width'], image['height']
        )
        # As mmdet: a box of less than a pixel is none.
        bad |= np.array(
            [min(ann['bbox'][2:]) < 1 or not ann['area'] > 0 for ann in boxes], dtype=bool
        )
        if bad.any():
            self._dropped[image['file_name']] = int(bad.sum())
        good = [ann for ann, is_bad in zip(boxes, bad) if not is_bad]
        info = super().parse_data_info(dict(raw_data_info, raw_ann_info=good))
        # Their classes may be on the image all the same.
        kept = {id(ann) for ann in good}
        info['dropped_labels'] = sorted(
            {
                self.cat2label[ann['category_id']]
                for ann in raw_data_info['raw_ann_info']
                if id(ann) not in kept and ann['category_id'] in self.cat2label
            }
        )
        return info


def _corners(bbox: list) -> list:
    x, y, w, h = bbox
    return [x, y, x + w, y + h]
