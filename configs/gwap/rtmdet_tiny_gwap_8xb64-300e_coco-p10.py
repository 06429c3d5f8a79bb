_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
custom_imports = dict(imports=['mmgwap'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmgwap.MultiTaskDetector',
    detector=_base_.model,
    cls_head=dict(type='mmgwap.ImageClsHead', source='backbone', num_classes=80, in_channels=384),
)
train_dataloader = dict(
    batch_size=64,
    batch_sampler=dict(_delete_=True, type='mmgwap.PartialBoxBatchSampler', num_boxed=32),
    dataset=dict(
        _delete_=True,
        type='mmgwap.PartialBoxDataset',
        percent=10,
        # Mosaic and MixUp of images with and without boxes would give boxes for some
        # objects of an image only. So images with boxes are mixed among themselves, and
        # images with labels only are not mixed.
        label_pipeline=_base_.train_pipeline_stage2,
        dataset=_base_.train_dataloader.dataset,
    ),
)
val_evaluator = [_base_.val_evaluator, dict(type='mmgwap.MultiLabelMetric', classwise=False)]
test_evaluator = val_evaluator

# An epoch passes over the boxed tenth of the images, so ten epochs here have as many
# iterations as one epoch over all images.
max_epochs = 3000
switch_epoch = 2800
train_cfg = dict(max_epochs=max_epochs, val_interval=100, dynamic_intervals=[(switch_epoch, 10)])
param_scheduler = [
    _base_.param_scheduler[0],
    dict(
        type='CosineAnnealingLR',
        eta_min=2e-4,
        begin=max_epochs // 2,
        end=max_epochs,
        T_max=max_epochs // 2,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [
    _base_.custom_hooks[0],
    dict(
        type='PipelineSwitchHook',
        switch_epoch=switch_epoch,
        switch_pipeline=_base_.train_pipeline_stage2,
    ),
    dict(type='NumClassCheckHook'),
    dict(type='mmgwap.ExactResumeHook'),
    dict(type='mmgwap.StopAtInvalidLossHook'),
    dict(type='mmgwap.BadImagesHook'),
]
auto_scale_lr = dict(base_batch_size=512)
default_hooks = dict(checkpoint=dict(type='mmgwap.AtomicCheckpointHook', interval=100))
