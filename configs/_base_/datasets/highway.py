# Street photographs in COCO layout: images/, annotations/{train,val}.json. They lie in
# data/highway, or in highway/ of the folder that the environment variable MMGWAP_DATA names.
# For another data set in this layout, change `data_root`, `metainfo` and `scale`.
data_root = '{{$MMGWAP_DATA:data}}/highway/'
metainfo = dict(classes=('bus', 'car', 'motorbike', 'person', 'truck'))
scale = (320, 320)

# Pillow raises on a truncated file. OpenCV would return it with a grey rest.
load_image = dict(type='LoadImageFromFile', imdecode_backend='pillow')
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
weak_view = [
    load_image,
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
]
strong_view = [
    dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=scale, allow_negative_crop=True),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomErasing', n_patches=(1, 3), ratio=(0.05, 0.15)),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(4, 4)),
    dict(type='PackDetInputs'),
]
train_pipeline = [*weak_view, *strong_view]
# Of images without boxes: the teacher has the weak view, the student the strong view.
label_pipeline = [*weak_view, dict(type='mmgwap.PackTeacherView'), *strong_view]
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
        type='mmgwap.CheckedCocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/train.json',
        data_prefix=dict(img='images/'),
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
        type='mmgwap.CheckedCocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/val.json',
        data_prefix=dict(img='images/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'annotations/val.json', metric='bbox')
test_evaluator = val_evaluator
