"""Image-level classification head with localization maps."""

from collections.abc import Sequence
from typing import Optional

from mmcv.cnn import ConvModule
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmgwap.localization import class_activation_maps
from mmgwap.registry import MODELS
from mmgwap.structures import batch_multi_hot


@MODELS.register_module()
class ImageClsHead(BaseModule):
    """Image-level logits and localization maps from one feature map.

    The head is a linear classifier (a 1x1 convolution) and a global pooling. Poolings
    of scores follow the classifier, and poolings of features precede it.

    Args:
        num_classes (int): number of classes K.
        in_channels (int): channels of the feature map.
        in_index (int): index of the feature map among those of ``source``. The
            default is the last map of the backbone.
        source (str): 'backbone' or 'neck'. A detector without a neck gives the maps
            of its backbone for both.
        pool (dict): ``ClassSpecificGWAP`` (default), ``ClassAgnosticGWAP``,
            ``GlobalAvgPool``, ``GlobalMaxPool`` or ``LogSumExpPool``.
        num_convs (int): number of 3x3 convolutions, each with norm and ReLU, before
            the classifier and the pooling.
        feat_channels (int): channels of these convolutions.
        norm_cfg (dict): norm layer of these convolutions.
        multi_label (bool): whether an image has any number of classes (sigmoid)
            instead of exactly one (softmax).
        loss (dict): a classification loss of mmdet. Its inputs are logits, targets and
            weights. Logits are (N, K). Targets are (N, K) of 0 and 1 or, if not
            ``multi_label``, class indices (N, ). Weights have the shape of the
            targets, and are 0 where the label is unknown. Default: cross entropy,
            summed over the classes and averaged over the images.

    Raises:
        ValueError: if ``source`` is unknown, or ``loss.use_sigmoid`` does not fit
            ``multi_label``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        in_index: int = -1,
        source: str = 'backbone',
        pool: ConfigType = dict(type='mmgwap.ClassSpecificGWAP'),
        num_convs: int = 0,
        feat_channels: int = 256,
        norm_cfg: OptConfigType = dict(type='BN'),
        multi_label: bool = True,
        loss: OptConfigType = None,
        init_cfg: OptMultiConfig = dict(type='Normal', layer='Conv2d', std=0.01),
    ) -> None:
        super().__init__(init_cfg)
        if source not in ('backbone', 'neck'):
            raise ValueError(f"ImageClsHead: source must be 'backbone' or 'neck', got {source!r}")
        self.num_classes = num_classes
        self.in_index = in_index
        self.source = source
        self.multi_label = multi_label
        self.convs = nn.Sequential()
        for _ in range(num_convs):
            self.convs.append(
                ConvModule(in_channels, feat_channels, 3, padding=1, norm_cfg=norm_cfg)
            )
            in_channels = feat_channels
        self.classifier = nn.Conv2d(in_channels, num_classes, 1)
        self.pool = MODELS.build(pool, default_args=dict(in_channels=in_channels))
        self.loss_image = MODELS.build(
            loss or dict(type='mmdet.CrossEntropyLoss', use_sigmoid=multi_label)
        )
        if getattr(self.loss_image, 'use_sigmoid', multi_label) != multi_label:
            raise ValueError(
                f'ImageClsHead: multi_label={multi_label} needs a loss with '
                f'use_sigmoid={multi_label}, got {loss}'
            )

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Return the logits (B, K) of feature maps, each (B, C, H, W)."""
        return self._logits(self._features(feats))

    def _features(self, feats: Sequence[Tensor]) -> Tensor:
        if not -len(feats) <= self.in_index < len(feats):
            raise IndexError(
                f'ImageClsHead: in_index={self.in_index} is out of range, '
                f'the {self.source} gives {len(feats)} feature maps'
            )
        return self.convs(feats[self.in_index])

    def _logits(self, features: Tensor) -> Tensor:
        if self.pool.on_scores:
            return self.pool(self.classifier(features))
        return self.classifier(self.pool(features)[..., None, None]).flatten(1)

    def loss(self, feats: Sequence[Tensor], batch_data_samples: SampleList) -> dict:
        """Compute the image-level loss.

        Args:
            feats (sequence[Tensor]): feature maps of all images, each (B, C, H, W).
            batch_data_samples (list): data samples with image labels, or with boxes
                whose classes are the labels.

        Returns:
            dict: ``loss_image``, a scalar.

        Raises:
            ValueError: if a label is not one of the classes, or ``multi_label`` is
                False and the number of labels of an image is not 1.
        """
        logits = self(feats)
        targets = batch_multi_hot(batch_data_samples, self.num_classes)
        known = (targets >= 0).any(dim=1)
        # A batch without labels still uses every parameter.
        num_known = max(int(known.sum()), 1)
        if self.multi_label:
            targets = targets.to(logits.device)
            labels, weight = targets.clamp(min=0), (targets >= 0).float()
        else:
            self._check_single_label(targets, known, batch_data_samples)
            labels, weight = targets.argmax(dim=1), known.float()
            labels, weight = labels.to(logits.device), weight.to(logits.device)
        return dict(loss_image=self.loss_image(logits, labels, weight=weight, avg_factor=num_known))

    @staticmethod
    def _check_single_label(targets: Tensor, known: Tensor, samples: SampleList) -> None:
        wrong = known & ((targets == 1).sum(dim=1) != 1)
        for i in wrong.nonzero().flatten().tolist():
            raise ValueError(
                f'{samples[i].get("img_path")}: ImageClsHead(multi_label=False) needs one label '
                f'per image, got {targets[i].eq(1).nonzero().flatten().tolist()}'
            )

    def predict(
        self, feats: Sequence[Tensor], with_maps: bool = False
    ) -> tuple[Tensor, Optional[Tensor]]:
        """Predict scores and localization maps.

        Args:
            feats (sequence[Tensor]): feature maps, each (B, C, H, W).
            with_maps (bool): whether to compute the maps.

        Returns:
            tuple: scores (B, K) in [0, 1], and the maps (B, K, H, W) or None. The
            pooling defines the meaning and the range of the maps.
        """
        features = self._features(feats)
        logits = self._logits(features)
        scores = logits.sigmoid() if self.multi_label else logits.softmax(1)
        return scores, self.localize(features) if with_maps else None

    def localize(self, features: Tensor) -> Tensor:
        """Return the localization maps (B, K, H, W)."""
        if self.pool.on_scores:
            score_map = self.classifier(features)
            return self.pool.localize(score_map, score_map)
        score_map = class_activation_maps(features, self.classifier.weight)
        return self.pool.localize(features, score_map)
