# Boxes for 10 % of the images, labels for the others. This is the second stage: an
# image-level loss alone hardly trains a network with random weights, but does train a
# network that has learned from a few boxes.
_base_ = 'rfcn_r18_digits-all-boxes.py'

load_from = 'work_dirs/rfcn_r18_digits-p10-boxes-only/iter_1000.pth'
model = dict(
    _delete_=True,
    type='mmgwap.MultiTaskDetector',
    detector=_base_.model,
    cls_head=dict(type='mmgwap.ImageClsHead', source='backbone', num_classes=10, in_channels=256),
)
train_dataloader = dict(
    batch_size=12,
    batch_sampler=dict(type='mmgwap.PartialBoxBatchSampler', num_boxed=4),
    dataset=dict(
        _delete_=True,
        type='mmgwap.PartialBoxDataset',
        percent=10,
        dataset=_base_.train_dataloader.dataset,
    ),
)
# The head starts from random weights, the detector from the first stage.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'cls_head': dict(lr_mult=10)}))
val_evaluator = [_base_.val_evaluator, dict(type='mmgwap.MultiLabelMetric', classwise=False)]
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=12)
