_base_ = '../rfcn/rfcn_r50_1xb2-110k_voc0712.py'

# One image in ten keeps its boxes. These images fill half of a batch.
model = dict(
    _delete_=True,
    type='mmgwap.MultiTaskDetector',
    detector=_base_.model,
    cls_head=dict(type='mmgwap.ImageClsHead', source='backbone', num_classes=20, in_channels=2048),
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
auto_scale_lr = dict(base_batch_size=4)
