# Parts that all image classifiers share: softmax over classes, global average
# pooling, class activation maps. Each net adds a backbone and `in_channels`.
model = dict(
    type='mmgwap.ImageClassifier',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    cls_head=dict(
        type='mmgwap.ImageClsHead',
        source='backbone',
        num_classes=1000,
        multi_label=False,
        pool=dict(type='mmgwap.GlobalAvgPool'),
    ),
    test_cfg=dict(with_maps=True),
)
