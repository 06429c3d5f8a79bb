"""Any mmdet detector with an image-level head on its features."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample, OptSampleList, SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.dist import get_world_size
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map_only

from mmgwap.registry import MODELS


@MODELS.register_module()
class MultiTaskDetector(BaseDetector):
    """Detector that also learns from images with class labels but no boxes.

    Images with boxes give the detector's own losses, and all images give the
    image-level loss. The two tasks are those of arXiv 1809.08264; the loss weights
    are ours.
    An image has boxes unless its data sample says ``has_boxes=False``. Each
    image passes the backbone once.

    A checkpoint of the plain detector loads unchanged, by ``load_from`` or by
    ``init_cfg=dict(type='Pretrained', checkpoint=...)``.

    Calls that are not visible in the code of this class:

    * A forward pre-hook of ``data_preprocessor`` runs :func:`fill_instances`.
      mmengine calls the preprocessor from ``train_step``, ``val_step`` and
      ``test_step`` and from the distributed wrappers, so no single
      method covers all calls.
    * ``detector.extract_feat`` is replaced while the detector computes its
      losses or predictions (:func:`reuse_features`), because mmdet's ``loss``
      and ``predict`` accept images only.
    * A forward hook reads the feature maps of the backbone or neck
      (:func:`record_outputs`).
    * A pre-hook of ``load_state_dict`` runs :func:`add_detector_prefix`.
    * Attributes that this class does not have are read from ``detector``, for
      mmdet's hooks that access for example ``model.bbox_head``.

    Args:
        detector (dict): config of the detector, with its ``data_preprocessor``.
        cls_head (dict): config of an ``ImageClsHead``.
        test_cfg (dict): ``rescore`` (float in [0, 1], default 0), the weight r of
            the image-level score in the score of a box,
            ``score ** (1 - r) * image_score ** r``; ``with_maps`` (bool, default
            False), whether predictions contain the localization maps.
        data_preprocessor (dict): replaces the preprocessor of the detector.
        init_cfg (dict): as in mmdet.

    Raises:
        ValueError: if ``rescore`` is outside [0, 1].
    """

    def __init__(
        self,
        detector: ConfigType,
        cls_head: ConfigType,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        detector = dict(detector)
        detector_preprocessor = detector.pop('data_preprocessor', None)
        super().__init__(data_preprocessor or detector_preprocessor, init_cfg)
        self.detector = MODELS.build(detector)
        self.cls_head = MODELS.build(cls_head)
        self._set_test_cfg(**(test_cfg or {}))
        self.register_load_state_dict_pre_hook(add_detector_prefix)
        self.data_preprocessor.register_forward_pre_hook(fill_instances, with_kwargs=True)

    def _set_test_cfg(self, rescore: float = 0.0, with_maps: bool = False) -> None:
        if not 0 <= rescore <= 1:
            raise ValueError(
                f'MultiTaskDetector: test_cfg.rescore must be in [0, 1], got {rescore}'
            )
        self.rescore, self.with_maps = rescore, with_maps

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == 'detector':
                raise
            return getattr(self.detector, name)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor]:
        """Return the feature maps of the detector."""
        return self.detector.extract_feat(batch_inputs)

    def _extract(self, batch_inputs: Tensor) -> tuple:
        """Return the features for the detector and those for the image-level head."""
        source = self.cls_head.source
        if source == 'neck' and not self.detector.with_neck:
            source = 'backbone'
        with record_outputs(getattr(self.detector, source)) as outputs:
            feats = self.extract_feat(batch_inputs)
        return feats, outputs[-1]

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """Compute the losses of a batch, in which any image may lack boxes.

        Args:
            batch_inputs (Tensor): (B, 3, H, W), preprocessed.
            batch_data_samples (list): ground truth of each image.

        Returns:
            dict: the losses of the detector for the images with boxes, and
            ``loss_image`` for all images. In a batch without boxes, only
            ``loss_image``; the gradients of the detector's heads are then zero.
        """
        feats, cls_feats = self._extract(batch_inputs)
        boxed = [i for i, sample in enumerate(batch_data_samples) if sample.get('has_boxes', True)]
        image_loss = self.cls_head.loss(cls_feats, batch_data_samples)
        batch = batch_inputs, batch_data_samples, feats
        if boxed:
            return {**detector_loss(self.detector, *batch, boxed), **image_loss}
        return dict(loss_image=image_loss['loss_image'] + zero_loss(self.detector, *batch))

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Predict boxes and image-level scores.

        Args:
            batch_inputs (Tensor): (B, 3, H, W), preprocessed.
            batch_data_samples (list): metainfo of each image.
            rescale (bool): whether boxes refer to the original image.

        Returns:
            list: the data samples with ``pred_instances`` of the detector,
            ``pred_image_scores`` (K, ) in [0, 1] and, if ``with_maps``,
            ``pred_image_maps`` (K, h, w), which cover the padded batch at the
            resolution of the feature map.
        """
        feats, cls_feats = self._extract(batch_inputs)
        with reuse_features(self.detector, feats):
            samples = self.detector.predict(batch_inputs, batch_data_samples, rescale)
        scores, maps = self.cls_head.predict(cls_feats, self.with_maps)
        for i, sample in enumerate(samples):
            sample.pred_image_scores = scores[i]
            if self.with_maps:
                sample.pred_image_maps = maps[i]
            if self.rescore:
                sample.pred_instances = _rescore(sample.pred_instances, scores[i], self.rescore)
        return samples

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> tuple:
        """Return the raw outputs of the detector and the image-level logits (B, K)."""
        feats, cls_feats = self._extract(batch_inputs)
        with reuse_features(self.detector, feats):
            outputs = self.detector._forward(batch_inputs, batch_data_samples)
        return outputs, self.cls_head(cls_feats)


@MODELS.register_module()
class MultiTaskTTAModel(DetTTAModel):
    """mmdet's ``DetTTAModel`` for detectors with an image-level head.

    Image-level scores are averaged over the views. Maps are dropped, because
    the views differ in size and orientation.
    """

    def _merge_single_sample(self, data_samples: list[DetDataSample]) -> DetDataSample:
        merged = super()._merge_single_sample(data_samples)
        # mmdet returns the first view, which still holds its own predictions.
        if 'pred_image_scores' in data_samples[0]:
            merged.pred_image_scores = torch.stack(
                [view.pred_image_scores for view in data_samples]
            ).mean(dim=0)
            merged.pop('pred_image_maps', None)
        return merged


def detector_loss(
    detector: BaseDetector, inputs: Tensor, samples: SampleList, feats: Any, indices: list[int]
) -> dict:
    """Compute the losses of a detector for some images of a batch from the batch's features.

    Args:
        detector: detector of mmdet.
        inputs (Tensor): (B, 3, H, W), preprocessed.
        samples (list): ground truth of each image of the batch.
        feats: output of ``detector.extract_feat(inputs)``.
        indices (list[int]): images that give losses, at least one.
    """
    if len(indices) < len(samples):
        inputs, feats = select_images((inputs, feats), indices)
        samples = [samples[i] for i in indices]
    with reuse_features(detector, feats):
        return detector.loss(inputs, samples)


def zero_loss(detector: BaseDetector, inputs: Tensor, samples: SampleList, feats: Any) -> Tensor:
    """Return a loss of zero that depends on every parameter of the detector.

    Other processes may have images with boxes in this step. The loss of a
    detector may contain collective operations, in the forward pass (mean
    number of positives) and in the backward pass (synchronised batch norm).
    This process has to take part in them. It computes the loss of its first
    image, see :func:`_no_updates`, and discards the value.

    Args:
        detector, inputs, samples, feats: as for :func:`detector_loss`.
    """
    zero = sum(p.sum() for p in detector.parameters() if p.requires_grad) * 0
    if get_world_size() > 1:
        inputs, feats = select_images((inputs, feats), [0])
        _stop_gradients(feats)
        with _no_updates(detector):
            losses = detector_loss(detector, inputs, samples[:1], feats, [0])
        # Infinity times zero would be NaN.
        zero = zero + detector.parse_losses(losses)[0].nan_to_num() * 0
    return zero


def fill_instances(_: nn.Module, args: tuple, kwargs: dict) -> None:
    """Set empty ground truth for images without boxes.

    Runs before the data preprocessor, whose batch augmentations move the boxes of
    every image. ``has_boxes=False`` remains on the sample and keeps the image
    away from the detector.
    """
    data = args[0] if args else kwargs['data']
    for sample in data.get('data_samples') or ():
        if not sample.get('has_boxes', True):
            empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
            sample.gt_instances = sample.get('empty_instances', empty)
            sample.ignored_instances = empty


def add_detector_prefix(model: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Rename the keys of a plain detector's checkpoint to those of ``model``."""
    own = (f'{prefix}detector.', f'{prefix}cls_head.')
    if any(key.startswith(own) for key in state_dict):
        return
    for key in [key for key in state_dict if key.startswith(prefix)]:
        state_dict[own[0] + key[len(prefix) :]] = state_dict.pop(key)


@contextmanager
def record_outputs(module: nn.Module) -> Iterator[list[Any]]:
    """Collect the output of each call of a module."""
    outputs = []
    hook = module.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()


@contextmanager
def reuse_features(detector: BaseDetector, feats: Any) -> Iterator[None]:
    """Let ``detector.extract_feat`` return features that were computed before.

    ``loss``, ``predict`` and ``_forward`` of mmdet's detectors call
    ``extract_feat`` once and pass its output to their heads.

    Raises:
        TypeError: if the detector did not call ``extract_feat``, so that it
            computed its own features from all images.
    """
    calls = []

    def extract_feat(_: Tensor) -> Any:
        calls.append(True)
        return feats

    detector.extract_feat = extract_feat
    try:
        yield
    finally:
        del detector.extract_feat
    if not calls:
        raise TypeError(
            f'{type(detector).__name__} does not call extract_feat in this mode, '
            'so it cannot share its features with the image-level head'
        )


def select_images(batch: Any, indices: list[int]) -> Any:
    """Select images from (nested) tensors whose first dimension is the image.

    A contiguous range, such as the images with boxes in the batches of
    ``PartialBoxBatchSampler``, is a view; other selections are copies.
    """
    first, stop = indices[0], indices[-1] + 1
    selection = slice(first, stop) if indices == list(range(first, stop)) else indices
    return tree_map_only(Tensor, lambda x: x[selection], batch)


@contextmanager
def _no_updates(model: nn.Module) -> Iterator[None]:
    """Make the gradients of a forward pass zero, and keep batch norm statistics.

    The gradient of a loss that is infinite or NaN is NaN even if the loss is
    multiplied by zero. A gradient of zero at the output of each submodule makes the
    gradients of its parameters zero, and the values that synchronised norms exchange.

    ``SyncBatchNorm`` does update its statistics: all processes make the same
    update, and without it their buffers would differ.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm)
        and not isinstance(module, nn.SyncBatchNorm)
        and module.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    hooks = [
        module.register_forward_hook(lambda _, inputs, output: _stop_gradients(output))
        for module in model.modules()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for norm in norms:
            norm.track_running_stats = True


def _stop_gradients(outputs: Any) -> None:
    """Replace the gradient that arrives at each tensor by zero, even if it is NaN."""

    def stop(tensor: Tensor) -> None:
        # A leaf, such as a parameter that a module returns, would keep the hook.
        if tensor.grad_fn is not None:
            tensor.register_hook(torch.zeros_like)

    tree_map_only(Tensor, stop, outputs)


def _rescore(instances: InstanceData, image_scores: Tensor, weight: float) -> InstanceData:
    """Blend the image-level score of its class into the score of each box."""
    instances.scores = instances.scores ** (1 - weight) * image_scores[instances.labels] ** weight
    return instances[instances.scores.argsort(descending=True)]
