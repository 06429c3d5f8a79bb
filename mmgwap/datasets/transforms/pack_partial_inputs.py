"""Pack images that may have no boxes, and prepare pipelines for them."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from mmcv.transforms import BaseTransform, CenterCrop, Compose
from mmcv.transforms import RandomFlip as PlainRandomFlip
from mmcv.transforms import Resize as PlainResize
from mmdet.datasets.transforms import (
    Albu,
    Expand,
    MinIoURandomCrop,
    PackDetInputs,
    RandomAffine,
    RandomCenterCropPad,
    RandomFlip,
    RandomShift,
    Resize,
)
from mmengine.structures import InstanceData
from torch import Tensor

from mmgwap.registry import TRANSFORMS
from mmgwap.structures import PartialDataSample, image_labels

# Transforms of mmcv and mmdet that move pixels and do not record it in homography_matrix. Of the
# subclasses, those of mmdet's Resize and RandomFlip record it.
UNRECORDED = (
    Albu,
    CenterCrop,
    Expand,
    MinIoURandomCrop,
    PlainRandomFlip,
    PlainResize,
    RandomAffine,
    RandomCenterCropPad,
    RandomShift,
)
RECORDED = (RandomFlip, Resize)


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
    ``empty_instances`` instead of ``gt_instances`` and ``ignored_instances``, and

    * metainfo ``homography_matrix`` (3, 3) float32, which maps points (x, y, 1) of the image
      file to the packed image;
    * ``teacher_view``, if the pipeline contains :class:`PackTeacherView`;
    * ``hidden_instances``, the boxes (N, 4) and labels (N, ) that a ``PartialBoxDataset``
      removed, in pixels of the image file. They serve to measure pseudo boxes only.
    * ``file_instances``, boxes (N, 4), labels (N, ) and scores (N, ) from a file of
      detections, in pixels of the image file.

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
            homography = results.get('homography_matrix')
            homography = np.eye(3) if homography is None else homography
            sample.set_metainfo(dict(homography_matrix=homography.astype(np.float32)))
            for key in ('hidden_instances', 'file_instances'):
                if key in results:
                    sample.set_data({key: _as_instances(**results[key])})
            if 'teacher_view' in results:
                sample.set_data(dict(teacher_view=results['teacher_view']))
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


def _as_instances(bboxes: list, labels: list, **fields) -> InstanceData:
    return InstanceData(
        bboxes=torch.tensor(bboxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        **{key: torch.tensor(value, dtype=torch.float32) for key, value in fields.items()},
    )


@TRANSFORMS.register_module()
class PackTeacherView(PackPartialInputs):
    """Keep the image as it is at this point of the pipeline as the view of a teacher.

    The transforms before this transform make the weak view, on which a
    ``LabelGuidedTeacher`` finds pseudo boxes. The transforms after it turn the weak view into the
    strong view, from which the student learns. Images with boxes pass unchanged.

    Required keys: those of :class:`PackPartialInputs`. Added key: ``teacher_view``, a dict with
    ``inputs`` (3, H, W) uint8 and ``data_samples``.
    """

    def transform(self, results: dict) -> dict:
        if results.get('has_boxes', True):
            return results
        fields = {
            k: v for k, v in results.items() if k not in ('hidden_instances', 'file_instances')
        }
        # Later transforms may change the image in place.
        view = super().transform(copy.deepcopy(fields))
        return dict(results, teacher_view=view)


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


def without_boxes(pipeline: Compose, name: str, pseudo_boxes: bool = False) -> Compose:
    """Copy a pipeline for images without boxes.

    In the copy, a crop without a box is valid. mmdet by default rejects such a crop.

    Args:
        pipeline (Compose): pipeline of images with boxes.
        name (str): name of the pipeline, for errors.
        pseudo_boxes (bool): whether boxes from a file must follow the pixels. The same holds for
            boxes of a teacher, that is with :class:`PackTeacherView` in the pipeline.

    Raises:
        ValueError: if a transform, at any depth, mixes images, or moves pixels without a record
            in ``homography_matrix`` where boxes must follow them.
    """
    pipeline = copy.deepcopy(pipeline)
    if pseudo_boxes or any(isinstance(each, PackTeacherView) for each in _walk(pipeline)):
        _check_homography(pipeline, name)
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


def _check_homography(pipeline: Compose, name: str) -> None:
    for transform in _walk(pipeline):
        if isinstance(transform, UNRECORDED) and not isinstance(transform, RECORDED):
            raise ValueError(
                f'{type(transform).__name__} of {type(transform).__module__.split(".")[0]} in '
                f'{name} moves pixels without recording homography_matrix, so that pseudo boxes '
                'would not follow; use Resize, RandomFlip, RandomCrop, Rotate, ShearX, ShearY, '
                'TranslateX or TranslateY of mmdet'
            )


def _walk(pipeline) -> Iterator:
    for transform in getattr(pipeline, 'transforms', []):
        # RandomChoice holds lists of transforms.
        if isinstance(transform, (list, tuple)):
            transform = Compose(transform)
        yield transform
        # RandomResize, RandomChoiceResize and ResizeShortestEdge hold a Resize.
        if isinstance(getattr(transform, 'resize', None), BaseTransform):
            yield transform.resize
        yield from _walk(transform)
