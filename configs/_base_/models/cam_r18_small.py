# ResNet-18 of a quarter of the width, from scratch; maps of stride 8.
model = dict(
    type='mmgwap.ImageClassifier',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[128.0, 128.0, 128.0],
        std=[64.0, 64.0, 64.0],
        bgr_to_rgb=True,
        pad_size_divisor=8,
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=16,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 1, 1),
        norm_eval=False,
        init_cfg=None,
    ),
    cls_head=dict(
        type='mmgwap.ImageClsHead',
        source='backbone',
        num_classes=10,
        in_channels=128,
        multi_label=False,
        pool=dict(type='mmgwap.GlobalAvgPool'),
    ),
    test_cfg=dict(with_maps=True),
)
