# Photographs of an aquarium, in the layout and with the augmentations of highway.py. They lie in
# data/aquarium, or in aquarium/ of the folder that the environment variable MMGWAP_DATA names.
_base_ = 'highway.py'

data_root = '{{$MMGWAP_DATA:data}}/aquarium/'
metainfo = dict(classes=('fish', 'jellyfish', 'penguin', 'puffin', 'shark', 'starfish', 'stingray'))
scale = (448, 448)

resize = dict(type='Resize', scale=scale, keep_ratio=True)
weak_view = [*_base_.weak_view[:2], resize, *_base_.weak_view[3:]]
strong_view = [
    dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=scale, allow_negative_crop=True),
    *_base_.strong_view[2:],
]
train_pipeline = [*weak_view, *strong_view]
label_pipeline = [*weak_view, dict(type='mmgwap.PackTeacherView'), *strong_view]
test_pipeline = [_base_.load_image, resize, *_base_.test_pipeline[2:]]

data = dict(data_root=data_root, metainfo=metainfo)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, **data))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, **data))
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
