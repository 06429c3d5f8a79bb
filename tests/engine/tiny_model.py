"""A model whose training step takes milliseconds."""

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import nn


@MODELS.register_module()
class TinyModel(BaseModel):
    """Convolution, batch norm and dropout with two terms of the loss, and one box an image."""

    def __init__(self) -> None:
        super().__init__(dict(type='mmdet.DetDataPreprocessor'))
        self.conv = nn.Conv2d(3, 4, 3, stride=4)
        self.bn = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout()

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'loss':
            return self.loss(inputs)
        for sample in data_samples:
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([[1.0, 1, 9, 9]]),
                labels=torch.tensor([0]),
                scores=torch.tensor([0.5]),
            )
        return data_samples

    def loss(self, inputs):
        features = self.dropout(self.bn(self.conv(inputs / 255)))
        return dict(
            loss_cls=(features - 1).square().mean(),
            loss_bbox=[features.abs().mean(), features.square().mean()],
            acc=features.detach().mean(),
        )
