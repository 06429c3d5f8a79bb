# ResNet-18 with a quarter of the channels, trained from scratch. Maps have stride 8.
_base_ = 'image_classifier.py'

model = dict(
    data_preprocessor=dict(mean=[128.0, 128.0, 128.0], std=[64.0, 64.0, 64.0], pad_size_divisor=8),
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=16,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 1, 1),
        norm_eval=False,
        init_cfg=None,
    ),
    cls_head=dict(num_classes=10, in_channels=128),
)
