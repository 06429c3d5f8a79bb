# Boxes for 5 % of the images, labels for the others: a teacher finds pseudo boxes. This is the
# second stage after rfcn_efficientnet-lite0_highway-p05-boxes-only.
_base_ = 'rfcn_efficientnet-lite0_highway.py'

load_from = 'work_dirs/rfcn_efficientnet-lite0_highway-p05-boxes-only/iter_600.pth'
detector = _base_.model
detector.test_cfg.rcnn.score_thr = 0.001
model = dict(
    _delete_=True, type='mmgwap.LabelGuidedTeacher', detector=detector, best_score=0.01, window=500
)
train_dataloader = dict(
    batch_size=8,
    batch_sampler=dict(type='mmgwap.PartialBoxBatchSampler', num_boxed=4),
    dataset=dict(
        _delete_=True,
        type='mmgwap.PartialBoxDataset',
        percent=5,
        label_pipeline=_base_.label_pipeline,
        dataset=_base_.train_dataloader.dataset,
    ),
)
custom_hooks = [*_base_.custom_hooks, dict(type='mmgwap.MeanTeacherHook', momentum=0.01)]
auto_scale_lr = dict(base_batch_size=8)
