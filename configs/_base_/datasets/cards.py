# Photographs of playing cards in VOC layout (JPEGImages/, Annotations/,
# ImageSets/Main/) from EdjeElectronics' object detection tutorial. For another data
# set in this layout, change `data_root`, `metainfo` and the names of the image sets.
data_root = 'data/cards/'
metainfo = dict(classes=('nine', 'ten', 'jack', 'queen', 'king', 'ace'))
scale = (256, 256)

# Pillow raises on a truncated file. OpenCV would return it with a grey rest.
load_image = dict(type='LoadImageFromFile', imdecode_backend='pillow')
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
train_pipeline = [
    load_image,
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=scale, ratio_range=(0.8, 1.4), keep_ratio=True),
    dict(type='RandomCrop', crop_size=scale),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    load_image,
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=meta_keys),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmgwap.CheckedXMLDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='ImageSets/Main/train.txt',
        data_prefix=dict(sub_data_root=''),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmgwap.CheckedXMLDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='ImageSets/Main/test.txt',
        data_prefix=dict(sub_data_root=''),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='VOCMetric', metric='mAP', eval_mode='area')
test_evaluator = val_evaluator
