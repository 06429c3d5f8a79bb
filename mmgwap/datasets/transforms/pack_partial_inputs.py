"""Pack images that may have no boxes, and prepare pipelines for them."""

import copy
from collections.abc import Iterator

import torch
from mmcv.transforms import Compose
from mmdet.datasets.transforms import PackDetInputs
from torch import Tensor

from mmgwap.registry import TRANSFORMS
from mmgwap.structures import PartialDataSample, image_labels


@TRANSFORMS.register_module()
class PackPartialInputs(PackDetInputs):
    """mmdet's ``PackDetInputs`` that also packs image labels.

    The labels of an image with boxes are the classes of its boxes after the augmentations. Classes
    whose boxes were dropped as degenerate or ignored (``dropped_labels``) are unknown. An image
    without boxes keeps its ``image_labels``, even if a crop removed an object.

    Required keys: those of ``PackDetInputs``, and either ``gt_bboxes_labels`` and optionally
    ``dropped_labels``, or ``has_boxes=False``, ``image_labels`` and ``ignored_image_labels``.

    Added to the data sample, a ``PartialDataSample``: metainfo ``has_boxes``, fields
    ``gt_image_labels`` and ``ignored_image_labels``. An image without boxes has
    ``empty_instances`` instead of ``gt_instances`` and ``ignored_instances``.

    Raises:
        ValueError: if an image with boxes has no ``gt_bboxes_labels``.
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

    def _labels_of_boxes(self, results: dict, sample: PartialDataSample) -> tuple[Tensor, Tensor]:
        """Return the classes that are present on the image, and the classes that may be present."""
        if 'gt_bboxes_labels' not in results:
            raise ValueError(
                'PackPartialInputs: an image with boxes has no gt_bboxes_labels; add '
                "dict(type='LoadAnnotations', with_bbox=True) to the pipeline"
            )
        present, unknown = image_labels(sample)
        dropped = torch.as_tensor(list(results.get('dropped_labels', ())), dtype=torch.int64)
        unknown = torch.cat([unknown, dropped]).unique()
        return present, unknown[~torch.isin(unknown, present)]


def pack_image_labels(pipeline: Compose) -> Compose:
    """Replace ``PackDetInputs`` at the end of a pipeline by ``PackPartialInputs``.

    Raises:
        ValueError: if the pipeline ends in neither of them. Other transforms would lose
            ``has_boxes``.
    """
    *others, last = pipeline.transforms or [None]
    if isinstance(last, PackPartialInputs):
        return pipeline
    if type(last) is not PackDetInputs:
        raise ValueError(
            'a pipeline for images without boxes must end in PackDetInputs or '
            f'mmgwap.PackPartialInputs, got {type(last).__name__}; otherwise images without boxes '
            'would be trained on as empty'
        )
    return Compose([*others, PackPartialInputs(meta_keys=last.meta_keys)])


def without_boxes(pipeline: Compose, name: str) -> Compose:
    """Copy a pipeline for images without boxes.

    In the copy, a crop without a box is valid. mmdet by default rejects such a crop.

    Args:
        pipeline (Compose): pipeline of images with boxes.
        name (str): name of the pipeline, for errors.

    Raises:
        ValueError: if a transform, at any depth, mixes images.
    """
    pipeline = copy.deepcopy(pipeline)
    for transform in _walk(pipeline):
        # RandomCrop and Albu return None if no box is left.
        for option, value in (('allow_negative_crop', True), ('skip_img_without_anno', False)):
            if hasattr(transform, option):
                setattr(transform, option, value)
        # All transforms of mmdet that mix images have this method.
        if hasattr(transform, 'get_indexes'):
            raise ValueError(
                f'{type(transform).__name__} in {name} mixes images, which gives wrong labels '
                'if some have no boxes; remove it, or give PartialBoxDataset a '
                'label_pipeline=[...] without it'
            )
    return pipeline


def _walk(pipeline) -> Iterator:
    for transform in getattr(pipeline, 'transforms', []):
        # RandomChoice holds lists of transforms.
        if isinstance(transform, (list, tuple)):
            transform = Compose(transform)
        yield transform
        yield from _walk(transform)
