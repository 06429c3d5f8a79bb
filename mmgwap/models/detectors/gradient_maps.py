"""Gradient CAMs of any detector of mmdet."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
    """Where in each image the evidence for a class is.

    Args:
        detector, data, label, layer, index: of :func:`score_gradients`.
        method (str): 'grad_cam', 'grad_cam_plusplus' or 'layer_cam'.

    Returns:
        Tensor: (B, h, w), not negative, at the layer's resolution, over the
        padded batch; zero for an image where the class was not detected.

    Raises:
        ValueError: if the method is another, or as :func:`score_gradients`.
    """
    if method not in GRADIENT_CAMS:
        raise ValueError(
            f'gradient_maps: method must be one of {tuple(GRADIENT_CAMS)}, got {method!r}'
        )
    return GRADIENT_CAMS[method](*score_gradients(detector, data, label, layer, index))


def score_gradients(
    detector: BaseDetector, data: dict, label: int, layer: str = 'backbone', index: int = -1
) -> tuple[Tensor, Tensor]:
    """Features of a layer, and the gradient of a class's score by them.

    The score is the logit of an :class:`ImageClassifier`, and of a detector the
    sum of the scores of its detections of the class.

    Args:
        detector (BaseDetector): in eval mode; its parameters get no gradients.
        data (dict): a batch, as a data loader gives it.
        label (int): the class.
        layer (str): name of the module whose output is explained, such as
            'backbone', 'neck' or 'backbone.layer3'.
        index (int): which of the outputs, if it has several, or is called for
            several feature levels.

    Returns:
        tuple[Tensor, Tensor]: (B, C, h, w) each, detached; the gradient is zero
        where the class was not detected.

    Raises:
        ValueError: if there is no such class or layer, the layer gives no map,
            or has no part in the scores.
    """
    _check_label(detector, label)
    with torch.enable_grad(), attached_scores(), _kept(_find(detector, layer)) as outputs:
        batch = detector.data_preprocessor(data, False)
        # Where all layers before it are frozen, the features need a gradient.
        inputs = batch['inputs'].requires_grad_()
        scores = _class_scores(detector, inputs, batch['data_samples'], label)
    features = _pick(outputs, layer, index)
    gradients = None
    if scores.requires_grad:
        (gradients,) = torch.autograd.grad(scores.sum(), features, allow_unused=True)
    if gradients is None and scores.any():
        raise ValueError(
            f'gradient_maps: {layer!r} has no part in the scores '
            f'of {type(detector).__name__}, or they come without '
            'a gradient'
        )
    if gradients is None:  # nothing detected
        gradients = torch.zeros_like(features)
    return features.detach(), gradients


def _class_scores(detector: BaseDetector, inputs: Tensor, samples: list, label: int) -> Tensor:
    """Scores (B, ) of a class."""
    if isinstance(detector, ImageClassifier):
        return detector._forward(inputs)[:, label]
    samples = detector.predict(inputs, samples, rescale=False)
    return torch.stack([_detection_score(sample, label) for sample in samples])


def _detection_score(sample: DetDataSample, label: int) -> Tensor:
    found = sample.pred_instances
    return found.scores[found.labels == label].sum()


def _find(detector: BaseDetector, layer: str) -> torch.nn.Module:
    # A MultiTaskDetector has its detector's layers under their own names too.
    for name in (layer, f'detector.{layer}'):
        try:
            return detector.get_submodule(name)
        except AttributeError:
            continue
    raise ValueError(
        f'gradient_maps: {type(detector).__name__} has no layer '
        f'{layer!r}; its parts are '
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
            f'gradient_maps: label={label}, but '
            f'{type(detector).__name__} has the classes 0 to '
            f'{max(counts, default=1) - 1}'
        )


@contextmanager
def _kept(module: torch.nn.Module) -> Iterator[list]:
    """Collect a layer's outputs, call by call.

    What follows gets copies, and may change these in place.
    """
    outputs = []

    def keep(_, inputs, output):
        outputs.extend(output if isinstance(output, (tuple, list)) else [output])
        return tree_map_only(Tensor, torch.clone, output)

    hook = module.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        hook.remove()


def _pick(outputs: list, layer: str, index: int) -> Tensor:
    if not outputs:
        raise ValueError(f'gradient_maps: {layer!r} is not called itself; name a layer in it')
    if not -len(outputs) <= index < len(outputs):
        raise ValueError(
            f'gradient_maps: index={index}, but {layer!r} gives {len(outputs)} outputs'
        )
    output = outputs[index]
    if not isinstance(output, Tensor) or output.dim() != 4:
        raise ValueError(
            f'gradient_maps: {layer!r} gives no map (B, C, H, W), '
            f'got {getattr(output, "shape", type(output))}'
        )
    return output


@contextmanager
def attached_scores() -> Iterator[None]:
    """Keep predictions in the graph.

    mmdet's dense heads detach them when they select those of an image, each by
    the name that its module imported.
    """
    holders = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith('mmdet.')
        and getattr(module, 'select_single_mlvl', None) is select_single_mlvl
    ]

    def attached(tensors, batch_id, detach=True):
        return select_single_mlvl(tensors, batch_id, detach=False)

    for module in holders:
        module.select_single_mlvl = attached
    try:
        yield
    finally:
        for module in holders:
            module.select_single_mlvl = select_single_mlvl
