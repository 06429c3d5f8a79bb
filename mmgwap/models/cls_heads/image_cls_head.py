"""Image-level classification that also shows where."""

from collections.abc import Sequence
from typing import Optional

import torch
from mmcv.cnn import ConvModule
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmgwap.argument_checks import check_config, check_flag, check_norm, check_whole
from mmgwap.localization import class_activation_maps
from mmgwap.registry import MODELS
from mmgwap.structures import multi_hot


@MODELS.register_module()
class ImageClsHead(BaseModule):
    """Logits of the image and localization maps, from one feature map.

    A linear classifier and a global pooling.  Poolings of scores come behind
    the classifier (a 1x1 convolution), the others before it.

    Args:
        num_classes (int): K.
        in_channels (int): channels of the feature map.
        in_index (int): which of the feature maps.
        source (str): 'backbone' or 'neck', whose feature maps.  A detector
            without neck has those of its backbone alone.
        pool (dict): ``ClassSpecificGWAP`` (default), ``ClassAgnosticGWAP``,
            ``GlobalAvgPool``, ``GlobalMaxPool`` or ``LogSumExpPool``.
        num_convs (int): 3x3 convolutions, normalised, with ReLU, before it.
        feat_channels (int): their channels.
        norm_cfg (dict): their normalisation.
        multi_label (bool): whether an image may have any number of classes
            (sigmoid), or has exactly one (softmax).
        loss (dict): a loss of mmdet, given logits (N, K), targets (N, K) of 0
            and 1 or, if not ``multi_label``, classes (N, ), and weights of the
            same shape, 0 where the label is not known.  Default: cross
            entropy, summed over the classes, averaged over the images.

    Raises:
        ValueError: if an argument is of another kind, or outside of its range,
            or the loss is a softmax for many labels, or sigmoids for a single one.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        in_index: int = -1,
        source: str = 'neck',
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
        for name, value, least, most in (
            ('num_classes', num_classes, 1, 10**6),
            ('in_channels', in_channels, 1, 10**6),
            ('in_index', in_index, -100, 100),
            ('num_convs', num_convs, 0, 100),
            ('feat_channels', feat_channels, 1, 10**6),
        ):
            check_whole(value, f'ImageClsHead: {name}', least, most)
        check_flag(multi_label, 'ImageClsHead: multi_label')
        check_config(pool, 'ImageClsHead: pool')
        check_norm(norm_cfg, 'ImageClsHead: norm_cfg', optional=True)
        check_config(loss, 'ImageClsHead: loss', optional=True)
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
        """Logits (B, K) of feature maps, each (B, C, H, W)."""
        return self._logits(self._features(feats))

    def _features(self, feats: Sequence[Tensor]) -> Tensor:
        if not -len(feats) <= self.in_index < len(feats):
            raise IndexError(
                f'ImageClsHead: in_index={self.in_index}, but the '
                f'{self.source} gives {len(feats)} feature maps'
            )
        return self.convs(feats[self.in_index])

    def _logits(self, features: Tensor) -> Tensor:
        if self.pool.on_scores:
            return self.pool(self.classifier(features))[0]
        pooled = self.pool(features)[0]
        return self.classifier(pooled[..., None, None]).flatten(1)

    def loss(self, feats: Sequence[Tensor], batch_data_samples: SampleList) -> dict:
        """Image-level loss.

        Args:
            feats (sequence[Tensor]): of all images, each (B, C, H, W).
            batch_data_samples (list): with image labels, or boxes to take
                them from.

        Returns:
            dict: ``loss_image``, a scalar.

        Raises:
            ValueError: if an image has labels outside of the classes or, not
                ``multi_label``, other than one.
        """
        logits = self(feats)
        targets = torch.stack(
            [multi_hot(sample, self.num_classes) for sample in batch_data_samples]
        ).to(logits.device)
        known = (targets >= 0).any(dim=1)
        # A step without any label still uses every parameter.
        count = max(int(known.sum()), 1)
        if self.multi_label:
            loss = self.loss_image(
                logits, targets.clamp(min=0), weight=(targets >= 0).float(), avg_factor=count
            )
        else:
            classes = self._single_classes(targets, known, batch_data_samples)
            loss = self.loss_image(logits, classes, weight=known.float(), avg_factor=count)
        return dict(loss_image=loss)

    def _single_classes(self, targets: Tensor, known: Tensor, samples: SampleList) -> Tensor:
        wrong = known & ((targets == 1).sum(dim=1) != 1)
        if wrong.any():
            sample = samples[int(wrong.nonzero()[0])]
            raise ValueError(
                f'{sample.get("img_path")}: ImageClsHead(multi_label=False) '
                'needs one label an image, got '
                f'{multi_hot(sample, self.num_classes).eq(1).nonzero().flatten().tolist()}'
            )
        return targets.argmax(dim=1)

    def predict(
        self, feats: Sequence[Tensor], with_maps: bool = False
    ) -> tuple[Tensor, Optional[Tensor]]:
        """Scores and localization maps.

        Args:
            feats (sequence[Tensor]): each (B, C, H, W).
            with_maps (bool): whether the maps are wanted.

        Returns:
            tuple: scores (B, K) in [0, 1], and the maps (B, K, H, W), or None;
            what they mean and their range is the pooling's to say.
        """
        features = self._features(feats)
        logits = self._logits(features)
        scores = logits.sigmoid() if self.multi_label else logits.softmax(1)
        return scores, self.localize(features) if with_maps else None

    def localize(self, features: Tensor) -> Tensor:
        """Localization maps (B, K, H, W)."""
        if self.pool.on_scores:
            maps = self.classifier(features)
            return self.pool.localize(maps, maps)
        score_map = class_activation_maps(features, self.classifier.weight)
        return self.pool.localize(features, score_map)
