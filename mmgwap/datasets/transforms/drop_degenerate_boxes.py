"""Drop degenerate boxes in a pipeline, for any data set."""

import logging

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import get_box_tensor
from mmengine.logging import print_log

from mmgwap.datasets.annotation_checks import DEGENERATE, is_degenerate
from mmgwap.registry import TRANSFORMS

KEYS = ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags', 'gt_masks')


@TRANSFORMS.register_module()
class DropDegenerateBoxes(BaseTransform):
    """Drop boxes without area, inverted, not finite, huge or outside of the image.

    The checked data sets of mmgwap drop such boxes at loading time. This transform serves other
    data sets. Put it behind ``LoadAnnotations``, or behind a transform that produces such boxes.
    The first dropped box is reported with its file.

    Required keys: ``gt_bboxes`` (N, 4), ``img_shape``. Modified keys, if present: ``gt_bboxes``,
    ``gt_bboxes_labels``, ``gt_ignore_flags``, ``gt_masks``. Added or extended key:
    ``dropped_labels``, classes of the dropped boxes, which ``PackPartialInputs`` packs as unknown.
    """

    def __init__(self) -> None:
        # In shared memory, so that only one loader worker warns.
        self._reported = torch.zeros(1, dtype=torch.bool).share_memory_()

    def transform(self, results: dict) -> dict:
        boxes = results['gt_bboxes']
        if not isinstance(boxes, np.ndarray):
            boxes = get_box_tensor(boxes).numpy()
        height, width = results['img_shape'][:2]
        bad = is_degenerate(boxes, width, height)
        if bad.any():
            if 'gt_bboxes_labels' in results:
                labels = results['gt_bboxes_labels'][bad].tolist()
                results['dropped_labels'] = sorted({*results.get('dropped_labels', ()), *labels})
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
            f'{path}: dropped {count} boxes {DEGENERATE}; further boxes are dropped without a '
            'warning',
            'current',
            logging.WARNING,
        )

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
