"""Data samples of images with partial ground truth, and readers of their fields."""

from collections.abc import Sequence
from typing import Union

import torch
from mmdet.structures import DetDataSample
from torch import Tensor

from mmgwap.localization import resize_maps


class PartialDataSample(DetDataSample):
    """Data sample of an image that may have class labels but no boxes.

    Metainfo ``has_boxes`` (bool) says whether boxes are known. Fields:
    ``gt_image_labels`` (P, ) int64, the classes that are present, and
    ``ignored_image_labels`` (Q, ) int64, the classes that may be present. All
    other classes are absent.

    ``gt_instances`` of an image without boxes raises an error, so that a detector
    that does not know image labels fails instead of learning that the image is
    empty. The empty ground truth is kept in ``empty_instances``.
    """

    # The message of an AttributeError reaches the user because this class has no
    # __getattr__, which Python would call next.
    @property
    def gt_instances(self):
        if '_gt_instances' not in self:
            raise AttributeError(
                f'{self.get("img_path")}: the image has class labels but no boxes; train on it '
                "with type='mmgwap.MultiTaskDetector'"
            )
        return self._gt_instances

    @gt_instances.setter
    def gt_instances(self, value) -> None:
        DetDataSample.gt_instances.fset(self, value)

    @gt_instances.deleter
    def gt_instances(self) -> None:
        DetDataSample.gt_instances.fdel(self)


def image_labels(sample: Union[DetDataSample, dict]) -> tuple[Tensor, Tensor]:
    """Return the classes that are present on an image and those that may be present.

    If the sample has boxes but no image labels, the classes of the boxes are
    present, and classes that occur in ignored boxes only may be present.

    Args:
        sample: a data sample, or the dict of its ``to_dict``.

    Returns:
        tuple[Tensor, Tensor]: two int64 vectors without common elements.

    Raises:
        ValueError: if the sample has neither image labels nor boxes.

    Example:
        >>> present, unknown = image_labels(
        ...     dict(
        ...         gt_image_labels=torch.tensor([3, 1, 3]),
        ...         ignored_image_labels=torch.tensor([1, 2]),
        ...     )
        ... )
        >>> present, unknown
        (tensor([1, 3]), tensor([2]))
    """
    present, unknown = (labels.unique() for labels in _label_fields(sample))
    return present, unknown[~torch.isin(unknown, present)]


def _label_fields(sample: Union[DetDataSample, dict]) -> tuple[Tensor, Tensor]:
    if 'gt_image_labels' in sample:
        present = sample.get('gt_image_labels')
        return present, sample.get('ignored_image_labels', present[:0])
    if sample.get('has_boxes', True) and 'gt_instances' in sample:
        instances = sample.get('gt_instances')
        if 'labels' in instances:
            present = instances.get('labels')
            return present, sample.get('ignored_instances', {}).get('labels', present[:0])
    raise ValueError(
        f'{sample.get("img_path")}: the sample has neither image labels nor boxes; end the '
        'pipeline with mmgwap.PackPartialInputs, or with PackDetInputs and boxes'
    )


def multi_hot(sample: Union[DetDataSample, dict], num_classes: int) -> Tensor:
    """Encode the labels of an image: 1 present, 0 absent, -1 unknown.

    Args:
        sample: as for :func:`image_labels`.
        num_classes (int): length of the vector.

    Returns:
        Tensor: (num_classes, ), float32, on the device of the labels.

    Raises:
        ValueError: if a label is outside [0, num_classes).

    Example:
        >>> multi_hot(dict(gt_image_labels=torch.tensor([0, 2])), num_classes=4)
        tensor([1., 0., 1., 0.])
    """
    return batch_multi_hot([sample], num_classes)[0].to(_label_fields(sample)[0].device)


def batch_multi_hot(samples: Sequence[Union[DetDataSample, dict]], num_classes: int) -> Tensor:
    """Encode the labels of several images, each as in :func:`multi_hot`.

    The labels of all images are copied from the GPU at once, so that the CPU waits for
    the GPU only once per batch.

    Returns:
        Tensor: (len(samples), num_classes), float32, on the CPU.
    """
    fields = [field for sample in samples for field in _label_fields(sample)]
    labels = torch.cat(fields).cpu().split([len(field) for field in fields])
    targets = torch.zeros(len(samples), num_classes)
    for sample, target, present, unknown in zip(samples, targets, labels[::2], labels[1::2]):
        for label in (*present.tolist(), *unknown.tolist()):
            if not 0 <= label < num_classes:
                raise ValueError(
                    f'{sample.get("img_path")}: image label {label} is outside of the '
                    f'{num_classes} classes'
                )
        target[unknown] = -1
        target[present] = 1
    return targets


def maps_to_image(
    sample: Union[DetDataSample, dict], maps: Tensor, rescale: bool = True, unflip: bool = True
) -> Tensor:
    """Resize maps that cover a padded batch to the image of a data sample.

    Args:
        sample: a data sample, or the dict of its ``to_dict``, with the metainfo
            ``batch_input_shape``, ``img_shape`` and ``ori_shape``.
        maps (Tensor): (K, h, w), for example ``sample.pred_image_maps``.
        rescale (bool): whether to resize to the original image instead of the
            resized image.
        unflip (bool): whether to undo a flip of the image.

    Returns:
        Tensor: (K, H, W), in float32 or higher precision.
    """
    padded, resized, original = (
        tuple(sample.get(name)[:2]) for name in ('batch_input_shape', 'img_shape', 'ori_shape')
    )
    flipped = unflip and sample.get('flip', False)
    return resize_maps(
        maps.float() if maps.dtype.itemsize < 4 else maps,
        padded,
        resized,
        original if rescale else resized,
        sample.get('flip_direction') if flipped else None,
    )
