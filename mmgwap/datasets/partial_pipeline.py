"""Pipelines that images without boxes may pass."""

import copy
from collections.abc import Iterator

from mmcv.transforms import Compose
from mmdet.datasets.transforms import PackDetInputs

from .transforms import PackPartialInputs


def adapt_pipeline(pipeline: Compose) -> Compose:
    """The same pipeline, packing image labels as well.

    Raises:
        ValueError: if it ends in neither ``PackDetInputs`` nor
            ``PackPartialInputs``, which alone carry on that an image has no
            boxes.
    """
    *before, last = pipeline.transforms or [None]
    if isinstance(last, PackPartialInputs):
        return pipeline
    if type(last) is not PackDetInputs:
        raise ValueError(
            'the pipeline of images without boxes must end in '
            f'mmgwap.PackPartialInputs, got {type(last).__name__}; without it '
            'they would be trained on as empty'
        )
    return Compose([*before, PackPartialInputs(meta_keys=last.meta_keys)])


def for_labels(pipeline: Compose, what: str) -> Compose:
    """A copy of a pipeline, for images without boxes.

    In it a crop may hold no box, which mmdet else takes for a failure.

    Args:
        pipeline (Compose): of other images.
        what (str): its name, for errors.

    Raises:
        ValueError: if it mixes images, at any depth.
    """
    pipeline = copy.deepcopy(pipeline)
    for transform in _walk(pipeline):
        # RandomCrop and Albu give up where no box is left.
        for option, value in (('allow_negative_crop', True), ('skip_img_without_anno', False)):
            if hasattr(transform, option):
                setattr(transform, option, value)
        # What mmdet's Mosaic, MixUp, CopyPaste and cached forms have in common.
        if hasattr(transform, 'get_indexes'):
            raise ValueError(
                f'{type(transform).__name__} in {what} mixes images, and the '
                'labels of one, or boxes of one with missing boxes of another, '
                'would be wrong for both; leave it out, of a PartialBoxDataset '
                'by label_pipeline=[...] for its images without boxes'
            )
    return pipeline


def _walk(pipeline) -> Iterator:
    for transform in getattr(pipeline, 'transforms', []):
        # A choice of pipelines holds lists.
        if isinstance(transform, (list, tuple)):
            transform = Compose(transform)
        yield transform
        yield from _walk(transform)
