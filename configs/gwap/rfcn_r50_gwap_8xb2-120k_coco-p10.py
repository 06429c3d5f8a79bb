_base_ = '../rfcn/rfcn_r50_8xb1-120k_coco.py'

# One image in ten keeps its boxes. These images fill half of a batch.
model = dict(
    _delete_=True,
    type='mmgwap.MultiTaskDetector',
    detector=_base_.model,
    cls_head=dict(type='mmgwap.ImageClsHead', source='backbone', num_classes=80, in_channels=2048),
)
train_dataloader = dict(
    batch_size=2,
    batch_sampler=dict(_delete_=True, type='mmgwap.PartialBoxBatchSampler', num_boxed=1),
    dataset=dict(
        _delete_=True,
        type='mmgwap.PartialBoxDataset',
        percent=10,
        dataset=_base_.train_dataloader.dataset,
    ),
)
val_evaluator = [_base_.val_evaluator, dict(type='mmgwap.MultiLabelMetric', classwise=False)]
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=16)
