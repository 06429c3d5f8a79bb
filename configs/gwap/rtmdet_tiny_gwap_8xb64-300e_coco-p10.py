_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
custom_imports = dict(imports=['mmgwap'], allow_failed_imports=False)

# Mosaic and MixUp would mix images with and without boxes: the latter pass a
# pipeline of their own, and are the smaller scales' share of RTMDet's second stage.
model = dict(
    _delete_=True,
    type='mmgwap.MultiTaskDetector',
    detector=_base_.model,
    cls_head=dict(
        type='mmgwap.ImageClsHead', source='backbone', num_classes=80,
        in_channels=384))
train_dataloader = dict(
    batch_size=64,
    batch_sampler=dict(
        _delete_=True, type='mmgwap.PartialBoxBatchSampler', boxed=32),
    dataset=dict(
        _delete_=True,
        type='mmgwap.PartialBoxDataset',
        percent=10,
        label_pipeline=_base_.train_pipeline_stage2,
        dataset=_base_.train_dataloader.dataset))
val_evaluator = [
    _base_.val_evaluator,
    dict(type='mmgwap.MultiLabelMetric', classwise=False)
]
test_evaluator = val_evaluator

# An epoch passes the boxed tenth once, so ten of them are as many iterations
# as one over all images.
train_cfg = dict(max_epochs=3000, val_interval=10)
