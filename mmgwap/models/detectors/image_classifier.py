"""Image classification that localizes: boxes from image labels alone."""

from typing import Optional

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import OptSampleList, SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.structures import InstanceData
from torch import Tensor

from mmgwap.argument_checks import (
    check_config,
    check_flag,
    check_number,
    check_settings,
    check_whole,
)
from mmgwap.localization import boxes_from_map
from mmgwap.localization.boxes import WHICH
from mmgwap.registry import MODELS
from mmgwap.structures import maps_to_image

DEFAULTS = dict(topk=5, score_thr=0.0, box_threshold=0.2, boxes='largest', with_maps=False)


@MODELS.register_module()
class ImageClassifier(BaseDetector):
    """Weakly supervised localization: Zhou et al., CVPR 2016; arXiv 1809.08264.

    A backbone, perhaps a neck, and an image-level head whose pooling gives a
    map of each class.  It learns from image labels, and predicts classes and,
    read off their maps, boxes.  To mmdet it is a detector.

    Args:
        backbone (dict): any of mmdet or mmgwap.
        cls_head (dict): ``ImageClsHead``.  ``multi_label=False`` trains with a
            softmax, on images of one class each.
        neck (dict): any of mmdet, if the head's ``source`` is 'neck'.
        train_cfg (dict): has no use; mmdet's tools may pass it.
        test_cfg (dict): ``topk`` (int, 5), the likeliest classes to localize;
            ``score_thr`` (float, 0), not those below; ``box_threshold``
            (float, 0.2) and ``boxes`` ('largest' or 'all'), see
            :func:`mmgwap.localization.boxes_from_map`; ``with_maps`` (bool,
            false), whether predictions carry the maps of all classes.
        data_preprocessor (dict): ``DetDataPreprocessor``; with a
            ``pad_size_divisor`` of the backbone's stride maps cover the image
            exactly.
        init_cfg (dict): as in mmdet.

    Raises:
        ValueError: if there is no such option, it is outside of its range, or
            the neck is not used.
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
        check_config(backbone, 'ImageClassifier: backbone')
        check_config(neck, 'ImageClassifier: neck', optional=True)
        check_config(cls_head, 'ImageClassifier: cls_head')
        self.backbone = MODELS.build(backbone)
        if neck is not None:
            self.neck = MODELS.build(neck)
        self.cls_head = MODELS.build(cls_head)
        if self.with_neck and self.cls_head.source == 'backbone':
            raise ValueError(
                "ImageClassifier: cls_head.source='backbone' "
                'leaves the neck without use; leave one of both '
                'out'
            )
        self.test_cfg = _read(test_cfg)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor]:
        """Feature maps, of the neck if there is one."""
        feats = self.backbone(batch_inputs)
        return self.neck(feats) if self.with_neck else feats

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """``loss_image``, of the labels of each image.

        Args:
            batch_inputs (Tensor): (B, 3, H, W), preprocessed.
            batch_data_samples (list): with image labels, or boxes to take them
                from.
        """
        return self.cls_head.loss(self.extract_feat(batch_inputs), batch_data_samples)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """What is on each image, and where.

        Args:
            batch_inputs (Tensor): (B, 3, H, W), preprocessed.
            batch_data_samples (list): metainfo of each image.
            rescale (bool): whether boxes are wanted in the original image.
                Flips stay, as mmdet's test-time augmentation wants them.

        Returns:
            list: the data samples, with ``pred_image_scores`` (K, ) in [0, 1],
            ``pred_instances`` of the likeliest classes, the score of a box
            being its class's, and, ``with_maps``, ``pred_image_maps``
            (K, h, w) at the resolution of the feature map, over the padded
            batch.  A class whose map is constant has no box.
        """
        feats = self.extract_feat(batch_inputs)
        scores, maps = self.cls_head.predict(feats, with_maps=True)
        for sample, image_scores, image_maps in zip(batch_data_samples, scores, maps):
            sample.pred_image_scores = image_scores
            if self.test_cfg['with_maps']:
                sample.pred_image_maps = image_maps
            sample.pred_instances = self._instances(sample, image_scores, image_maps, rescale)
        return batch_data_samples

    def _instances(self, sample, scores: Tensor, maps: Tensor, rescale: bool) -> InstanceData:
        cfg = self.test_cfg
        labels = scores.argsort(descending=True, stable=True)[: cfg['topk']]
        labels = labels[scores[labels] >= cfg['score_thr']]
        on_image = maps_to_image(sample, maps[labels], rescale, unflip=False)
        try:
            boxes = [
                boxes_from_map(one, cfg['box_threshold'], cfg['boxes'])
                for one in on_image.cpu().numpy()
            ]
        except ValueError as error:
            raise ValueError(f'{sample.get("img_path")}: {error}') from None
        labels = labels.repeat_interleave(labels.new_tensor([len(each) for each in boxes]))
        # float32, whatever the scores are: half has no whole numbers so large.
        boxes = np.concatenate([np.zeros((0, 4), np.float32), *boxes])
        return InstanceData(
            bboxes=torch.from_numpy(boxes).to(scores.device), labels=labels, scores=scores[labels]
        )

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> Tensor:
        """Logits (B, K)."""
        return self.cls_head(self.extract_feat(batch_inputs))


def _read(test_cfg: Optional[dict]) -> dict:
    who = 'ImageClassifier: test_cfg'
    check_settings(test_cfg, who, tuple(DEFAULTS))
    cfg = dict(DEFAULTS, **(test_cfg or {}))
    check_whole(cfg['topk'], f'{who}.topk')
    check_number(cfg['score_thr'], f'{who}.score_thr', 0, 1)
    check_number(cfg['box_threshold'], f'{who}.box_threshold', 0, 0.999)
    check_flag(cfg['with_maps'], f'{who}.with_maps')
    if cfg['boxes'] not in WHICH:
        raise ValueError(f'{who}.boxes must be one of {WHICH}, got {cfg["boxes"]!r:.80}')
    return cfg
