"""What a data sample of partial-box supervision says of its image."""

from typing import Union

import torch
from mmdet.structures import DetDataSample
from torch import Tensor

from mmgwap.localization import resize_maps


class PartialDataSample(DetDataSample):
    """Data sample of an image that may have no boxes, only labels.

    Metainfo ``has_boxes`` (bool).  Fields ``gt_image_labels`` (P, ) int64, the
    classes that are on the image, and ``ignored_image_labels`` (Q, ) int64,
    those of which it is not known; the image has none of the others.  An image
    without boxes has no ``gt_instances``, so that a detector that knows
    nothing of labels fails rather than learns that the image is empty; what
    they would be is in ``empty_instances``.
    """

    # A property that raises AttributeError would end in __getattr__, of which
    # there is none here, so the message reaches the user.
    @property
    def gt_instances(self):
        if '_gt_instances' not in self:
            raise AttributeError(
                f'{self.get("img_path")} has image labels but no boxes: train '
                "on it with type='mmgwap.MultiTaskDetector', which keeps it "
                'from the detector'
            )
        return self._gt_instances

    @gt_instances.setter
    def gt_instances(self, value) -> None:
        DetDataSample.gt_instances.fset(self, value)

    @gt_instances.deleter
    def gt_instances(self) -> None:
        DetDataSample.gt_instances.fdel(self)


def image_labels(sample: Union[DetDataSample, dict]) -> tuple[Tensor, Tensor]:
    """Classes that are on an image, and those of which it is not known.

    An image with boxes that says nothing of its labels has those of its boxes;
    classes of which it has ignored boxes alone are not known.

    Args:
        sample: a data sample, or what its ``to_dict`` gives.

    Returns:
        tuple[Tensor, Tensor]: two vectors of classes, int64, without common
        element.

    Raises:
        ValueError: if there is nothing to tell the labels by.
    """
    if 'gt_image_labels' in sample:
        present = sample.get('gt_image_labels')
        unknown = sample.get('ignored_image_labels', present[:0])
    elif (
        'gt_instances' in sample
        and sample.get('has_boxes', True)
        and 'labels' in sample.get('gt_instances')
    ):
        present = sample.get('gt_instances').get('labels')
        unknown = sample.get('ignored_instances', {}).get('labels', present[:0])
    else:
        raise ValueError(
            f'{sample.get("img_path")}: neither image labels nor '
            'boxes; end the pipeline with mmgwap.'
            'PackPartialInputs, or PackDetInputs with boxes'
        )
    present, unknown = present.unique(), unknown.unique()
    return present, unknown[~torch.isin(unknown, present)]


def multi_hot(sample: Union[DetDataSample, dict], num_classes: int) -> Tensor:
    """Labels of an image as a vector: 1 present, 0 absent, -1 not known.

    Args:
        sample: as for :func:`image_labels`.
        num_classes (int): its length.

    Returns:
        Tensor: (num_classes, ), float32.

    Raises:
        ValueError: if a label is outside of 0 ... num_classes-1.
    """
    present, unknown = image_labels(sample)
    for labels in (present, unknown):
        wrong = labels[(labels < 0) | (labels >= num_classes)]
        if len(wrong):
            raise ValueError(
                f'{sample.get("img_path")}: image label '
                f'{int(wrong[0])} is outside of the '
                f'{num_classes} classes'
            )
    target = torch.zeros(num_classes, device=present.device)
    target[unknown] = -1
    target[present] = 1
    return target


def maps_to_image(
    sample: Union[DetDataSample, dict], maps: Tensor, rescale: bool = True, unflip: bool = True
) -> Tensor:
    """Bring maps of a padded batch to the image of a data sample.

    Args:
        sample: a data sample, or what its ``to_dict`` gives; its metainfo says
            where the image lies.
        maps (Tensor): (K, h, w), such as its ``pred_image_maps``.
        rescale (bool): to the original image, and not as it was resized.
        unflip (bool): whether a flip is undone.

    Returns:
        Tensor: (K, H, W), float32 or wider.
    """
    flipped = unflip and sample.get('flip', False)
    padded, valid, original = (
        tuple(sample.get(name)[:2]) for name in ('batch_input_shape', 'img_shape', 'ori_shape')
    )
    return resize_maps(
        maps.float() if maps.dtype.itemsize < 4 else maps,
        padded,
        valid,
        original if rescale else valid,
        sample.get('flip_direction') if flipped else None,
    )
