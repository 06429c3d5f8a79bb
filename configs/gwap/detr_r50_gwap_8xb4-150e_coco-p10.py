_base_ = ['mmdet::detr/detr_r50_8xb2-150e_coco.py', '../_base_/custom_hooks.py']

model = dict(
    _delete_=True,
    type='mmgwap.MultiTaskDetector',
    detector=_base_.model,
    cls_head=dict(type='mmgwap.ImageClsHead', source='backbone', num_classes=80, in_channels=2048),
)
train_dataloader = dict(
    batch_size=4,
    batch_sampler=dict(_delete_=True, type='mmgwap.PartialBoxBatchSampler', num_boxed=2),
    dataset=dict(
        _delete_=True,
        type='mmgwap.PartialBoxDataset',
        percent=10,
        dataset=_base_.train_dataloader.dataset,
    ),
)
val_evaluator = [_base_.val_evaluator, dict(type='mmgwap.MultiLabelMetric', classwise=False)]
test_evaluator = val_evaluator

# An epoch passes over the boxed tenth of the images, so ten epochs here have as many
# iterations as one epoch over all images.
train_cfg = dict(max_epochs=1500, val_interval=10)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=1500, by_epoch=True, milestones=[1000], gamma=0.1)
]
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(
    checkpoint=dict(type='mmgwap.AtomicCheckpointHook', interval=10, max_keep_ckpts=3)
)
