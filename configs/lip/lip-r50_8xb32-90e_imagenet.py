# ImageNet classification with the authors' schedule: 90 epochs with batches of 256
# images; the learning rate is divided by ten after 30, 60 and 80 epochs.
_base_ = '../wsol/lip-r50_gap_ilsvrc.py'

model = dict(backbone=dict(init_cfg=None))
# mmdet has no RandomResizedCrop. This crop draws height and width independently.
train_pipeline = [
    _base_.load_image,
    dict(type='RandomCrop', crop_type='relative_range', crop_size=(0.28, 0.28)),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs', meta_keys=_base_.meta_keys + ('flip', 'flip_direction')),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

max_epochs = 90
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True),
)
param_scheduler = [
    dict(
        type='MultiStepLR',
        milestones=[30, 60, 80],
        gamma=0.1,
        begin=0,
        end=max_epochs,
        by_epoch=True,
    )
]
auto_scale_lr = dict(base_batch_size=256)
