"""The detector inside of a teacher or a MultiTaskDetector, and checkpoints for it."""

import logging

from mmdet.models.detectors import BaseDetector
from mmengine.logging import print_log
from torch import Tensor, nn

from .multi_task import MultiTaskDetector


def inner_detector(model: BaseDetector) -> BaseDetector:
    """Return the detector inside of a ``MultiTaskDetector``, or the model itself."""
    return model.detector if isinstance(model, MultiTaskDetector) else model


def count_classes(model: BaseDetector) -> int:
    """Return the number of classes of a detector.

    Raises:
        ValueError: if the image-level head of a ``MultiTaskDetector`` has another number.
    """
    detector = inner_detector(model)
    head = getattr(detector, 'roi_head', detector).bbox_head
    num_classes = (head[0] if isinstance(head, nn.ModuleList) else head).num_classes
    if isinstance(model, MultiTaskDetector) and model.cls_head.num_classes != num_classes:
        raise ValueError(
            f'LabelGuidedTeacher: cls_head has num_classes={model.cls_head.num_classes}, the '
            f'detector has num_classes={num_classes}'
        )
    return num_classes


def add_teacher_and_student(model: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Load a checkpoint of one detector into teacher and student.

    The checkpoint may be one of the plain detector or of a ``MultiTaskDetector``, whatever the
    student is.

    Raises:
        ValueError: if no weight has the name and the shape of a weight of the student. If some
            weights are missing, a warning counts them.
    """
    if any(key.startswith((f'{prefix}student.', f'{prefix}teacher.')) for key in state_dict):
        return
    weights = {
        key[len(prefix) :]: state_dict.pop(key)
        for key in list(state_dict)
        if key.startswith(prefix)
    }
    if not weights:
        return
    multi_task = any(key.startswith('detector.') for key in weights)
    if multi_task and not isinstance(model.student, MultiTaskDetector):
        weights = {
            key[len('detector.') :]: value
            for key, value in weights.items()
            if key.startswith('detector.')
        }
    elif not multi_task and isinstance(model.student, MultiTaskDetector):
        weights = {f'detector.{key}': value for key, value in weights.items()}
    _check_weights(weights, model.student)
    for name in ('teacher', 'student'):
        state_dict.update({f'{prefix}{name}.{key}': value for key, value in weights.items()})
    # A checkpoint of one detector has no thresholds and statistics; the model keeps its own.
    own = {f'{prefix}{name}': value for name, value in model.state_dict().items()}
    others = (f'{prefix}student.', f'{prefix}teacher.')
    state_dict.update({k: v for k, v in own.items() if not k.startswith(others)})


def _check_weights(weights: dict[str, Tensor], model: BaseDetector) -> None:
    name = type(inner_detector(model)).__name__
    own = {key: value.shape for key, value in model.state_dict().items()}
    missing = [key for key in own if getattr(weights.get(key), 'shape', None) != own[key]]
    if len(missing) == len(own):
        raise ValueError(
            f'LabelGuidedTeacher: the checkpoint has no weights of the detector, {name}; its first '
            f'weight is {next(iter(weights))}'
        )
    missing = [key for key in missing if not key.startswith('cls_head.')]
    if missing:
        print_log(
            f'LabelGuidedTeacher: the checkpoint lacks {len(missing)} of the {len(own)} weights of '
            f'the detector, {name}, such as {missing[0]}',
            'current',
            logging.WARNING,
        )
