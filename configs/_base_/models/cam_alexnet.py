# AlexNet-GAP of the CAM paper (arXiv 1512.04150): up to conv5, one 3x3
# convolution of 1024 channels, global average pooling, softmax.  Maps of 15x15
# at 256 px, 13x13 at 224.  Set `num_classes`.
model = dict(
    type='mmgwap.ImageClassifier',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='mmgwap.AlexNet', init_cfg=dict(type='Pretrained', checkpoint='torchvision://alexnet')
    ),
    cls_head=dict(
        type='mmgwap.ImageClsHead',
        source='backbone',
        num_classes=1000,
        in_channels=256,
        num_convs=1,
        feat_channels=1024,
        norm_cfg=None,
        multi_label=False,
        pool=dict(type='mmgwap.GlobalAvgPool'),
    ),
    test_cfg=dict(with_maps=True),
)
