"""What a MultiTaskDetector is given, brought into the form that it needs."""

import torch
from mmengine.structures import InstanceData
from torch import nn


def take_plain_checkpoint(state_dict: dict, prefix: str, *_) -> None:
    """Move the weights of a plain detector to where they belong here."""
    own = (f'{prefix}detector.', f'{prefix}cls_head.')
    if any(key.startswith(own) for key in state_dict):
        return
    for key in [key for key in state_dict if key.startswith(prefix)]:
        state_dict[own[0] + key[len(prefix) :]] = state_dict.pop(key)


def fill_instances(_: nn.Module, args: tuple, kwargs: dict) -> None:
    """Give images without boxes no instances, before batch augmentations.

    Those move the boxes of each image; that an image has none for the detector
    to learn from stays with its ``has_boxes``.
    """
    data = args[0] if args else kwargs['data']
    for sample in data.get('data_samples') or ():
        if not sample.get('has_boxes', True):
            nothing = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
            sample.gt_instances = sample.get('empty_instances', nothing)
            sample.ignored_instances = nothing
