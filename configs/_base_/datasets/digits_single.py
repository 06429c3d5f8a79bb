# One digit in clutter per image, for localization from image labels. Made by
# tools/dataset_converters/make_digits.py --single.
data_root = 'data/digits-single/'
metainfo = dict(classes=tuple('0123456789'))

load_image = dict(type='LoadImageFromFile', imdecode_backend='pillow')
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
# Without color and shift augmentation, the model memorizes the textures.
train_pipeline = [
    load_image,
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomCrop', crop_size=(56, 56)),
    dict(type='PackDetInputs', meta_keys=meta_keys),
]
test_pipeline = [
    load_image,
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=meta_keys),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmgwap.WSOLDataset',
        data_root=data_root,
        metainfo=metainfo,
        metadata_root='metadata/train/',
        data_prefix=dict(img=''),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    # Padding by repeated images would count these images twice.
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='mmgwap.WSOLDataset',
        data_root=data_root,
        metainfo=metainfo,
        metadata_root='metadata/val/',
        data_prefix=dict(img=''),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='mmgwap.WSOLMetric',
    metadata_root=data_root + 'metadata/val/',
    mask_root=data_root + 'masks/',
)
test_evaluator = val_evaluator
