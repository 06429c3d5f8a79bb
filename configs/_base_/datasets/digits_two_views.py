# Digits in clutter with augmentations: 10 % of the images have boxes, 4 in each batch of 8.
# On the other images, the teacher sees the image as it is, the student the augmented image.
_base_ = 'digits.py'

augmentations = [
    dict(type='RandomResize', scale=(128, 128), ratio_range=(0.75, 1.2), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(128, 128), allow_negative_crop=True),
    dict(type='PhotoMetricDistortion', hue_delta=90),
    dict(type='RandomErasing', n_patches=(1, 3), ratio=(0.05, 0.15)),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(8, 8)),
    dict(type='Pad', size=(128, 128)),
    dict(type='PackDetInputs'),
]
load = [_base_.load_image, dict(type='LoadAnnotations', with_bbox=True)]
train_pipeline = [*load, *augmentations]
label_pipeline = [*load, dict(type='mmgwap.PackTeacherView'), *augmentations]
train_dataloader = dict(
    batch_size=8,
    batch_sampler=dict(type='mmgwap.PartialBoxBatchSampler', num_boxed=4),
    dataset=dict(
        _delete_=True,
        type='mmgwap.PartialBoxDataset',
        percent=10,
        label_pipeline=label_pipeline,
        dataset=dict(
            type='mmgwap.CheckedCocoDataset',
            data_root=_base_.data_root,
            metainfo=_base_.metainfo,
            ann_file='annotations/train.json',
            data_prefix=dict(img='train/'),
            pipeline=train_pipeline,
        ),
    ),
)
