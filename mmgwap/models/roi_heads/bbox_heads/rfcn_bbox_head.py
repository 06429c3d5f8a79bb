"""R-FCN's box head: Dai et al., NIPS 2016, arXiv 1605.06409, section 2."""

import torch
from mmdet.models.roi_heads import BBoxHead
from torch import Tensor, nn
from torch.nn import functional as F

from mmgwap.registry import MODELS


class PositionSensitiveConv(nn.Conv2d):
    """1x1 convolution to ``out_features`` values for each of k*k bins.

    Filter ``(c_out * k + row) * k + col`` belongs to bin (row, col), as in Caffe. The convolution
    replaces the linear predictors of mmdet's ``BBoxHead`` and keeps their argument names.
    """

    def __init__(self, in_features: int, out_features: int, output_size: int) -> None:
        super().__init__(in_features, out_features * output_size**2, 1)
        self.num_bins = output_size**2

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, in_features, H, W) to (B, out_features, k*k, H, W).

        The maps lie in memory as (B, H, W, k*k, out_features), so that a vote reads rows.
        The filters are permuted instead of the maps, so that with channels-last features no map is
        copied.
        """
        weight, bias = (
            parameter.unflatten(0, (-1, self.num_bins)).transpose(0, 1).flatten(0, 1)
            for parameter in (self.weight, self.bias)
        )
        maps = F.conv2d(x, weight, bias).contiguous(memory_format=torch.channels_last)
        return maps.unflatten(1, (self.num_bins, -1)).transpose(1, 2)


@MODELS.register_module()
class RFCNBBoxHead(BBoxHead):
    """Box head that predicts position-sensitive score and box maps of a whole image.

    Targets, losses and decoding are those of ``BBoxHead``. The predictors are convolutions that
    run once over the image, before the RoIs are known. ``conv_new`` (1x1, ReLU) reduces the
    channels of the backbone.

    Args:
        in_channels (int): channels of the feature map, 2048 for res5.
        feat_channels (int): channels after ``conv_new``; 0 for a head without ``conv_new``.
        output_size (int): k, the number of bins on each side of an RoI. k = 1 does not converge
            (paper, table 2).
        reg_class_agnostic (bool): whether to predict one box for all classes, as in the paper,
            instead of one box for each class.
        init_cfg (dict, optional): defaults to Gaussian weights of std 0.01, 0.001 for the box maps.
        **kwargs: arguments of ``BBoxHead``: ``num_classes``, ``bbox_coder``, ``loss_cls``,
            ``loss_bbox`` ...
    """

    def __init__(
        self,
        in_channels: int = 2048,
        feat_channels: int = 1024,
        output_size: int = 7,
        reg_class_agnostic: bool = True,
        init_cfg: dict = None,
        **kwargs,
    ) -> None:
        predictor = dict(type=PositionSensitiveConv, output_size=output_size)
        super().__init__(
            in_channels=feat_channels or in_channels,
            roi_feat_size=1,
            reg_class_agnostic=reg_class_agnostic,
            cls_predictor_cfg=predictor,
            reg_predictor_cfg=predictor,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.output_size = output_size
        self.conv_new = None
        if feat_channels:
            self.conv_new = nn.Conv2d(in_channels, feat_channels, 1)
            if init_cfg is None:
                self.init_cfg.append(dict(type='Normal', std=0.01, override=dict(name='conv_new')))

    def forward(self, x: Tensor) -> tuple:
        """Predict the maps that the RoIs vote on.

        Args:
            x (Tensor): (B, in_channels, H, W).

        Returns:
            tuple[Tensor, Tensor]: score maps before softmax, (B, classes+1, k*k, H, W), background
            last; and maps of box deltas, (B, 4, k*k, H, W) or (B, classes*4, k*k, H, W).
        """
        if self.conv_new is not None:
            x = F.relu(self.conv_new(x), inplace=True)
        # Convert once for both predictors, whose maps take the layout of the features.
        x = x.contiguous(memory_format=torch.channels_last)
        return super().forward(x)
