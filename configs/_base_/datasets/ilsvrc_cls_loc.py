# ILSVRC CLS-LOC: training on train, testing on val. Make the metadata with
# python tools/dataset_converters/make_wsol_metadata.py ilsvrc \
#     data data/ILSVRC/metadata
# or use the metadata of the WSOL evaluation, whose test/ is val/ here.
data_root = 'data/ILSVRC/'

# Pillow raises on a truncated file. OpenCV would return it with a grey rest. Boxes,
# masks and sizes refer to the stored pixels, so the EXIF orientation is ignored.
load_image = dict(
    type='LoadImageFromFile', imdecode_backend='pillow', color_type='color_ignore_orientation'
)
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
# Like the WSOL evaluation, this does not keep the aspect ratio.
train_pipeline = [
    load_image,
    dict(type='Resize', scale=(256, 256), keep_ratio=False),
    dict(type='RandomCrop', crop_size=(224, 224)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs', meta_keys=meta_keys + ('flip', 'flip_direction')),
]
test_pipeline = [
    load_image,
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='PackDetInputs', meta_keys=meta_keys),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmgwap.WSOLDataset',
        data_root=data_root,
        metadata_root='metadata/train/',
        data_prefix=dict(img='Data/CLS-LOC/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    # Padding by repeated images would count these images twice.
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='mmgwap.WSOLDataset',
        data_root=data_root,
        metadata_root='metadata/val/',
        data_prefix=dict(img='Data/CLS-LOC/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='mmgwap.WSOLMetric', metadata_root=data_root + 'metadata/val/')
test_evaluator = val_evaluator
