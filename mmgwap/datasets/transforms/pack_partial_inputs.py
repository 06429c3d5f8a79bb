"""Pack an image that may have no boxes."""

import torch
from mmdet.datasets.transforms import PackDetInputs

from mmgwap.registry import TRANSFORMS
from mmgwap.structures import PartialDataSample, image_labels


@TRANSFORMS.register_module()
class PackPartialInputs(PackDetInputs):
    """mmdet's ``PackDetInputs`` that also carries the labels of the image.

    An image with boxes has the classes of its boxes, as they are after the
    augmentations.  One without has ``image_labels``, whatever became of it: a
    crop small enough to lose an object would make its label wrong.

    Required keys: those of ``PackDetInputs``, and either ``gt_bboxes_labels``
    or, with ``has_boxes=False``, ``image_labels`` and
    ``ignored_image_labels``, two vectors of classes.

    Added to the data sample, a ``PartialDataSample``: metainfo ``has_boxes``,
    fields ``gt_image_labels`` and ``ignored_image_labels``; ``gt_instances``
    and ``ignored_instances`` where there are boxes, else ``empty_instances``.

    Raises:
        ValueError: if an image with boxes comes without ``gt_bboxes_labels``.
    """

    def transform(self, results: dict) -> dict:
        packed = super().transform(results)
        has_boxes = results.get('has_boxes', True)
        plain = packed['data_samples']
        sample = PartialDataSample(metainfo=dict(plain.metainfo, has_boxes=has_boxes))
        for key, value in plain.items():
            if has_boxes or key not in ('gt_instances', 'ignored_instances'):
                setattr(sample, key, value)
            elif key == 'gt_instances':
                sample.empty_instances = value
        if has_boxes:
            present, unknown = self._labels_of_boxes(results, sample)
        else:
            present, unknown = (
                torch.as_tensor(results[key], dtype=torch.int64)
                for key in ('image_labels', 'ignored_image_labels')
            )
        sample.gt_image_labels = present
        sample.ignored_image_labels = unknown
        return dict(packed, data_samples=sample)

    def _labels_of_boxes(self, results: dict, sample: PartialDataSample) -> tuple:
        if 'gt_bboxes_labels' not in results:
            raise ValueError(
                'PackPartialInputs: an image with boxes came without '
                "gt_bboxes_labels; put dict(type='LoadAnnotations', "
                'with_bbox=True) into the pipeline'
            )
        return image_labels(sample)
