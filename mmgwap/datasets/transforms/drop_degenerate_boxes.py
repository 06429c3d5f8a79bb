"""Drop bad boxes of any data set, sample by sample."""

import logging

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import get_box_tensor
from mmengine.logging import print_log

from mmgwap.datasets.degenerate import WHAT, is_degenerate
from mmgwap.registry import TRANSFORMS

KEYS = ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags', 'gt_masks')


@TRANSFORMS.register_module()
class DropDegenerateBoxes(BaseTransform):
    """Drop boxes without area, inverted, not finite or outside of the image.

    For data sets other than mmgwap's own, which drop them when they load and
    know how many there are.  Put it behind ``LoadAnnotations``, or behind what
    may produce such boxes.  The first one is reported with its file; in an
    epoch's worth of samples a total would come too late.

    Required keys: ``gt_bboxes`` (N, 4), ``img_shape``.  Modified keys, where
    they are present: ``gt_bboxes``, ``gt_bboxes_labels``, ``gt_ignore_flags``,
    ``gt_masks``.
    """

    def __init__(self) -> None:
        # Shared, so that of all workers one speaks.
        self._reported = torch.zeros(1, dtype=torch.bool).share_memory_()

    def transform(self, results: dict) -> dict:
        boxes = results['gt_bboxes']
        if not isinstance(boxes, np.ndarray):
            boxes = get_box_tensor(boxes).numpy()
        height, width = results['img_shape'][:2]
        bad = is_degenerate(boxes, width, height)
        if bad.any():
            keep = np.flatnonzero(~bad)
            for key in KEYS:
                if key in results:
                    results[key] = results[key][keep]
            self._report(int(bad.sum()), results.get('img_path'))
        return results

    def _report(self, count: int, path: str) -> None:
        if self._reported.item():
            return
        self._reported.fill_(True)
        print_log(
            f'{path}: dropped {count} boxes {WHAT}; those of other '
            'images are dropped without a warning',
            'current',
            logging.WARNING,
        )

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
