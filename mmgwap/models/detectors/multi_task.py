"""Any detector of mmdet, with an image-level head on its features."""

from mmdet.models.detectors import BaseDetector
from mmdet.structures import OptSampleList, SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.dist import get_world_size
from mmengine.structures import InstanceData
from torch import Tensor

from mmgwap.argument_checks import check_config, check_flag, check_number, check_settings
from mmgwap.registry import MODELS

from .multi_task_inputs import fill_instances, take_plain_checkpoint
from .shared_features import record_outputs, reuse_features, select_images


@MODELS.register_module()
class MultiTaskDetector(BaseDetector):
    """Detector that also learns from images of which only labels are known.

    Boxed images give the detector's own losses, every image the image-level
    loss (arXiv 1809.08264 trains such a pair; the weights of the losses are
    ours).  Each image passes the backbone once.  An image is boxed unless its
    data sample says ``has_boxes=False``.

    A checkpoint of the plain detector loads as it is: ``load_from``, or
    ``init_cfg=dict(type='Pretrained', checkpoint=...)``.

    Attributes that it does not have are the detector's, so that hooks which
    reach for ``model.bbox_head`` find it.

    Args:
        detector (dict): config of the detector, with its ``data_preprocessor``.
        cls_head (dict): ``ImageClsHead``.
        test_cfg (dict): ``rescore`` (float), the share of the image-level
            score in a box's, ``score ** (1 - r) * image_score ** r``, 0 by
            default; ``with_maps`` (bool), whether predictions carry
            localization maps.
        data_preprocessor (dict): instead of the detector's.
        init_cfg (dict): as in mmdet.

    Raises:
        ValueError: if ``rescore`` is outside of [0, 1].
    """

    def __init__(
        self,
        detector: ConfigType,
        cls_head: ConfigType,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        check_config(detector, 'MultiTaskDetector: detector')
        check_config(cls_head, 'MultiTaskDetector: cls_head')
        check_settings(test_cfg, 'MultiTaskDetector: test_cfg', ('rescore', 'with_maps'))
        detector = dict(detector)
        own = detector.pop('data_preprocessor', None)
        super().__init__(data_preprocessor or own, init_cfg)
        self.detector = MODELS.build(detector)
        self.cls_head = MODELS.build(cls_head)
        self.rescore, self.with_maps = _read(**(test_cfg or {}))
        self._register_load_state_dict_pre_hook(take_plain_checkpoint)
        self.data_preprocessor.register_forward_pre_hook(fill_instances, with_kwargs=True)

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == 'detector':
                raise
            return getattr(self.detector, name)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor]:
        """Feature maps of the detector."""
        return self.detector.extract_feat(batch_inputs)

    def _extract(self, batch_inputs: Tensor) -> tuple:
        """Features for the detector and for the image-level head."""
        source = self.cls_head.source
        if source == 'neck' and not self.detector.with_neck:
            source = 'backbone'
        with record_outputs(getattr(self.detector, source)) as outputs:
            feats = self.extract_feat(batch_inputs)
        return feats, outputs[-1]

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """Losses of a batch, in which any image may lack boxes.

        Args:
            batch_inputs (Tensor): (B, 3, H, W), preprocessed.
            batch_data_samples (list): ground truth of each image.

        Returns:
            dict: the detector's losses, of the boxed images, and
            ``loss_image``, of all.  Without boxed images only the latter,
            and the detector's parameters get gradients of zero.
        """
        feats, cls_feats = self._extract(batch_inputs)
        boxed = [i for i, sample in enumerate(batch_data_samples) if sample.get('has_boxes', True)]
        image_loss = self.cls_head.loss(cls_feats, batch_data_samples)
        if boxed:
            losses = self._detector_loss(batch_inputs, batch_data_samples, feats, boxed)
            return {**losses, **image_loss}
        image_loss['loss_image'] = image_loss['loss_image'] + self._no_detector_loss(
            batch_inputs, batch_data_samples, feats
        )
        return image_loss

    def _detector_loss(
        self, inputs: Tensor, samples: SampleList, feats: tuple, chosen: list
    ) -> dict:
        if len(chosen) < len(samples):
            inputs, feats = select_images((inputs, feats), chosen)
            samples = [samples[i] for i in chosen]
        with reuse_features(self.detector, feats):
            return self.detector.loss(inputs, samples)

    def _no_detector_loss(self, inputs: Tensor, samples: SampleList, feats: tuple) -> Tensor:
        """Zero, of which every parameter of the detector is a part.

        In distributed training, other processes may have boxed images now, and
        a detector's loss may hold collective operations (the mean number of
        positives, synchronised batch norm).  This process has to take part in
        them, so the loss of one image is computed and multiplied by zero.
        """
        zero = sum(p.sum() for p in self.detector.parameters() if p.requires_grad) * 0
        if get_world_size() > 1:
            losses = self._detector_loss(inputs, samples, feats, [0])
            zero = zero + self.parse_losses(losses)[0] * 0
        return zero

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Detections, and what is on the image.

        Args:
            batch_inputs (Tensor): (B, 3, H, W), preprocessed.
            batch_data_samples (list): metainfo of each image.
            rescale (bool): whether boxes are wanted in the original image.

        Returns:
            list: the data samples, with the detector's ``pred_instances``,
            ``pred_image_scores`` (K, ) in [0, 1] and, ``with_maps``,
            ``pred_image_maps`` (K, h, w) at the resolution of the feature map,
            over the padded batch.
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
                sample.pred_instances = _rescored(sample.pred_instances, scores[i], self.rescore)
        return samples

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> tuple:
        """The detector's raw outputs and the image-level logits (B, K)."""
        feats, cls_feats = self._extract(batch_inputs)
        with reuse_features(self.detector, feats):
            outputs = self.detector._forward(batch_inputs, batch_data_samples)
        return outputs, self.cls_head(cls_feats)


def _read(rescore: float = 0.0, with_maps: bool = False) -> tuple:
    check_number(rescore, 'MultiTaskDetector: test_cfg.rescore', 0, 1)
    check_flag(with_maps, 'MultiTaskDetector: test_cfg.with_maps')
    return rescore, with_maps


def _rescored(instances: InstanceData, image_scores: Tensor, share: float) -> InstanceData:
    """Boxes with the image-level score of their class blended into theirs."""
    instances.scores = instances.scores ** (1 - share) * image_scores[instances.labels] ** share
    return instances[instances.scores.argsort(descending=True)]
