"""Gradient CAMs of any mmdet detector."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.models.utils import select_single_mlvl
from mmdet.structures import DetDataSample
from torch import Tensor
from torch.utils._pytree import tree_map_only

from mmgwap.localization import GRADIENT_CAMS

from .image_classifier import ImageClassifier


def gradient_maps(
    detector: BaseDetector,
    data: dict,
    label: int,
    method: str = 'grad_cam',
    layer: str = 'backbone',
    index: int = -1,
) -> Tensor:
    """Compute a gradient CAM of a class for each image.

    Args:
        detector, data, label, layer, index: see :func:`score_gradients`.
        method (str): 'grad_cam', 'grad_cam_plusplus' or 'layer_cam'.

    Returns:
        Tensor: (B, h, w), non-negative, which covers the padded batch at the
        resolution of the layer. Zero for images where the class was not detected.

    Raises:
        ValueError: if ``method`` is unknown, or as for :func:`score_gradients`.
    """
    if method not in GRADIENT_CAMS:
        raise ValueError(
            f'gradient_maps: method must be one of {tuple(GRADIENT_CAMS)}, got {method!r}'
        )
    return GRADIENT_CAMS[method](*score_gradients(detector, data, label, layer, index))


def score_gradients(
    detector: BaseDetector, data: dict, label: int, layer: str = 'backbone', index: int = -1
) -> tuple[Tensor, Tensor]:
    """Return the features of a layer and the gradient of a class score.

    The score is the logit of an :class:`ImageClassifier`, or the sum of the scores of
    a detector's detections of the class.

    Args:
        detector (BaseDetector): detector in eval mode. Its parameters get no
            gradients.
        data (dict): a batch of a data loader, before preprocessing.
        label (int): index of the class.
        layer (str): name of the module whose output is explained, for example
            'backbone', 'neck' or 'backbone.layer3'.
        index (int): index of the output, if the module returns several or is called
            once for each feature level.

    Returns:
        tuple[Tensor, Tensor]: features and gradient, (B, C, h, w) each, detached.
        The gradient is zero for images where the class was not detected.

    Raises:
        ValueError: if the class or the layer does not exist, the output is not a
            feature map, or the scores do not depend on it.
    """
    _check_label(detector, label)
    module = _find_module(detector, layer)
    with torch.enable_grad(), attached_scores(), _recorded_outputs(module) as outputs:
        batch = detector.data_preprocessor(data, False)
        # The features need a graph even if all layers before them are frozen.
        inputs = batch['inputs'].requires_grad_()
        scores = _class_scores(detector, inputs, batch['data_samples'], label)
    features = _feature_map(outputs, layer, index)
    gradients = None
    if scores.requires_grad:
        (gradients,) = torch.autograd.grad(scores.sum(), features, allow_unused=True)
    if gradients is None and scores.any():
        raise ValueError(
            f'gradient_maps: the scores of {type(detector).__name__} do not depend on '
            f'{layer!r}, or have no gradient'
        )
    if gradients is None:  # no detections
        gradients = torch.zeros_like(features)
    return features.detach(), gradients


def _class_scores(detector: BaseDetector, inputs: Tensor, samples: list, label: int) -> Tensor:
    """Return the score of a class for each image (B, )."""
    if isinstance(detector, ImageClassifier):
        return detector._forward(inputs)[:, label]
    samples = detector.predict(inputs, samples, rescale=False)
    return torch.stack([_detection_score(sample, label) for sample in samples])


def _detection_score(sample: DetDataSample, label: int) -> Tensor:
    instances = sample.pred_instances
    return instances.scores[instances.labels == label].sum()


def _find_module(detector: BaseDetector, layer: str) -> torch.nn.Module:
    # The layers of a MultiTaskDetector's detector can be named without 'detector.'.
    for name in (layer, f'detector.{layer}'):
        try:
            return detector.get_submodule(name)
        except AttributeError:
            continue
    raise ValueError(
        f'gradient_maps: {type(detector).__name__} has no layer {layer!r}; its modules are '
        f'{[name for name, _ in detector.named_children()]}'
    )


def _check_label(detector: BaseDetector, label: int) -> None:
    counts = [
        module.num_classes
        for module in detector.modules()
        if isinstance(getattr(module, 'num_classes', None), int)
    ]
    if label < 0 or counts and label >= max(counts):
        raise ValueError(
            f'gradient_maps: label must be in [0, {max(counts, default=1) - 1}], the classes of '
            f'{type(detector).__name__}, got {label}'
        )


@contextmanager
def _recorded_outputs(module: torch.nn.Module) -> Iterator[list]:
    """Collect the outputs of each call of a module.

    The following layers get copies, because they may change their input in place.
    """
    outputs = []

    def record(_, inputs, output):
        outputs.extend(output if isinstance(output, (tuple, list)) else [output])
        return tree_map_only(Tensor, torch.clone, output)

    hook = module.register_forward_hook(record)
    try:
        yield outputs
    finally:
        hook.remove()


def _feature_map(outputs: list, layer: str, index: int) -> Tensor:
    if not outputs:
        raise ValueError(
            f'gradient_maps: the module {layer!r} is not called itself; name one of its layers'
        )
    if not -len(outputs) <= index < len(outputs):
        raise ValueError(
            f'gradient_maps: index={index} is out of range, {layer!r} has {len(outputs)} outputs'
        )
    output = outputs[index]
    if not isinstance(output, Tensor) or output.dim() != 4:
        raise ValueError(
            f'gradient_maps: the output of {layer!r} must be a feature map (B, C, H, W), '
            f'got {getattr(output, "shape", type(output))}'
        )
    return output


@contextmanager
def attached_scores() -> Iterator[None]:
    """Keep the scores of mmdet's dense heads in the autograd graph.

    The heads detach the maps of each image by ``select_single_mlvl``, without an
    option to keep the graph. Several modules of mmdet import the function by name,
    so it is replaced in each of them.
    """

    def select_attached(mlvl_tensors, batch_id, detach=True):
        return select_single_mlvl(mlvl_tensors, batch_id, detach=False)

    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith('mmdet.') and hasattr(module, 'select_single_mlvl'):
                stack.enter_context(
                    mock.patch.object(module, 'select_single_mlvl', select_attached)
                )
        yield
