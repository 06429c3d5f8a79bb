# Boxes for 20 % of the photographs, labels for the others: a teacher finds pseudo boxes. This
# is the second stage after rfcn_r18_cards-p20-boxes-only.
_base_ = '../gwap/rfcn_r18_cards-all-boxes.py'

load_from = 'work_dirs/rfcn_r18_cards-p20-boxes-only/iter_1000.pth'
model = dict(
    _delete_=True,
    type='mmgwap.LabelGuidedTeacher',
    detector=_base_.model,
    window=300,  # about the number of photographs with labels only
)
train_dataloader = dict(
    batch_size=8,
    batch_sampler=dict(type='mmgwap.PartialBoxBatchSampler', num_boxed=4),
    dataset=dict(
        _delete_=True,
        type='mmgwap.PartialBoxDataset',
        percent=20,
        label_pipeline=[
            *_base_.train_pipeline[:2],
            dict(type='Resize', scale=_base_.scale, keep_ratio=True),
            dict(type='mmgwap.PackTeacherView'),
            *_base_.train_pipeline[2:],
        ],
        dataset=_base_.train_dataloader.dataset,
    ),
)
custom_hooks = [*_base_.custom_hooks, dict(type='mmgwap.MeanTeacherHook', momentum=0.01)]
auto_scale_lr = dict(base_batch_size=8)
