_base_ = '../rfcn/rfcn_r50_1xb2-110k_voc0712.py'

# Boxes of VOC 2007 and image labels of VOC 2012, each for half of a batch.
voc07, voc12 = _base_.train_dataloader.dataset.datasets
model = dict(
    _delete_=True,
    type='mmgwap.MultiTaskDetector',
    detector=_base_.model,
    cls_head=dict(type='mmgwap.ImageClsHead', source='backbone', num_classes=20, in_channels=2048),
)
train_dataloader = dict(
    batch_size=4,
    batch_sampler=dict(_delete_=True, type='mmgwap.PartialBoxBatchSampler', num_boxed=2),
    dataset=dict(datasets=[voc07, dict(type='mmgwap.PartialBoxDataset', percent=0, dataset=voc12)]),
)
val_evaluator = [_base_.val_evaluator, dict(type='mmgwap.MultiLabelMetric', classwise=False)]
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=4)
