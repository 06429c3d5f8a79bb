"""Remove classes from the scores of a detector, image by image."""

import inspect
import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from mmdet.models.dense_heads import AnchorFreeHead, AnchorHead, CascadeRPNHead, DETRHead, YOLOXHead
from mmdet.models.detectors import BaseDetector
from mmdet.models.roi_heads import MultiInstanceRoIHead, TridentRoIHead
from torch import Tensor, nn

from .multi_task import select_images

# At this logit, sigmoid, softmax and their losses are zero, also in half precision.
ABSENT_LOGIT = -1e4
# Heads with more scores than one per class and RoI, with other images than those of the batch, or
# with another method for the loss.
UNSUPPORTED = (CascadeRPNHead, MultiInstanceRoIHead, TridentRoIHead)


def supports_class_masks(detector: BaseDetector) -> bool:
    """Return whether :func:`mask_classes` knows the classification head of a detector."""
    if hasattr(detector, 'roi_head'):
        if any(isinstance(module, UNSUPPORTED) for module in detector.children()):
            return False
        forward = getattr(detector.roi_head, '_bbox_forward', None)
        return forward is not None and list(inspect.signature(forward).parameters)[-1] == 'rois'
    head = getattr(detector, 'bbox_head', None)
    # The encoder of two-stage transformers classifies outside of the head. TOOD's head returns
    # probabilities instead of logits.
    return (
        isinstance(head, (AnchorHead, AnchorFreeHead, DETRHead, YOLOXHead))
        and not getattr(detector, 'as_two_stage', False)
        and not getattr(head.loss_cls, 'activated', False)
    )


@contextmanager
def mask_classes(detector: BaseDetector, masks: Tensor) -> Iterator[None]:
    """Remove classes from the scores of each image while the detector computes.

    The logits of a removed class become :data:`ABSENT_LOGIT`, with a gradient of zero. In a loss,
    no place of the image is a negative example of the class. In a prediction, the class has no
    boxes, and a softmax divides its share among the other classes.

    The RPN of a two-stage detector does not classify. An image with a removed class gives no RPN
    loss, since its boxes are incomplete.

    Args:
        detector (BaseDetector): detector for which :func:`supports_class_masks` holds.
        masks (Tensor): (B, K) bool, the classes to remove from each image of the batch.
    """
    if not masks.any():
        yield
        return
    with ExitStack() as stack:
        if hasattr(detector, 'roi_head'):
            _mask_roi_head(stack, detector.roi_head, masks)
            if detector.with_rpn:
                stack.enter_context(_skip_images(detector.rpn_head, masks.any(dim=1)))
        else:
            handle = detector.bbox_head.register_forward_hook(
                lambda head, inputs, outputs: _mask_dense_outputs(head, outputs, masks)
            )
            stack.callback(handle.remove)
        yield


def _mask_roi_head(stack: ExitStack, roi_head: nn.Module, masks: Tensor) -> None:
    forward, sampled = roi_head._bbox_forward, []

    def masked_forward(*args: Any, **kwargs: Any) -> dict:
        results = forward(*args, **kwargs)
        rois = kwargs.get('rois', args[-1] if args else None)
        scores = results['cls_score']
        # Within a sampler, the RoIs belong to the first and only image of a batch.
        images = rois[:, 0].long() + (sampled[0] if sampled else 0)
        # The background has no mask.
        mask = nn.functional.pad(masks[images], (0, scores.shape[1] - masks.shape[1]))
        return dict(results, cls_score=scores.masked_fill(mask, ABSENT_LOGIT))

    stack.enter_context(mock.patch.object(roi_head, '_bbox_forward', masked_forward))
    samplers = getattr(roi_head, 'bbox_sampler', None) or []
    for sampler in samplers if isinstance(samplers, list) else [samplers]:
        stack.enter_context(_number_images(sampler, len(masks), sampled))


def _number_images(sampler: Any, count: int, sampled: list[int]) -> Any:
    """Keep the index of an image in ``sampled`` while a sampler chooses among its RoIs.

    Samplers are called once for each image, in order. OHEM scores the RoIs of the image.
    """
    sample, images = sampler.sample, itertools.cycle(range(count))

    def numbered_sample(*args: Any, **kwargs: Any) -> Any:
        sampled.append(next(images))
        try:
            return sample(*args, **kwargs)
        finally:
            sampled.pop()

    return mock.patch.object(sampler, 'sample', numbered_sample)


def _skip_images(rpn_head: nn.Module, skipped: Tensor) -> Any:
    """Compute the loss of the RPN without some images."""
    loss_by_feat = rpn_head.loss_by_feat
    images = (~skipped).nonzero().flatten().tolist()

    def loss_of_others(*args: Any) -> dict:
        *outputs, boxes, metas, ignored = args
        chosen = images or [0]
        losses = loss_by_feat(
            *select_images(outputs, chosen),
            *(
                [values[i] for i in chosen] if values else values
                for values in (boxes, metas, ignored)
            ),
        )
        if images:
            return losses
        # Losses of the first image times zero: the other processes expect its exchanges.
        return torch.utils._pytree.tree_map_only(Tensor, lambda x: x * 0, losses)

    return mock.patch.object(rpn_head, 'loss_by_feat', loss_of_others)


def _mask_dense_outputs(head: nn.Module, outputs: tuple, masks: Tensor) -> tuple:
    """Mask the first output of a dense head: a map per level, or (layers, B, queries, classes)."""
    scores, *others = outputs
    channels = head.cls_out_channels
    mask = nn.functional.pad(masks, (0, channels - masks.shape[1]))
    if isinstance(scores, Tensor):
        return scores.masked_fill(mask[:, None], ABSENT_LOGIT), *others
    maps = [
        level.unflatten(1, (-1, channels))
        .masked_fill(mask[:, None, :, None, None], ABSENT_LOGIT)
        .flatten(1, 2)
        for level in scores
    ]
    return maps, *others
