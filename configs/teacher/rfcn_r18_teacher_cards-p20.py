# Boxes for 20 % of the photographs, labels for the others: a teacher finds pseudo boxes. This
# is the second stage after rfcn_r18_cards-p20-boxes-only.
_base_ = '../gwap/rfcn_r18_gwap_cards-p20.py'

model = dict(
    _delete_=True, type='mmgwap.LabelGuidedTeacher', detector=_base_.model.detector, window=300
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        label_pipeline=[
            *_base_.train_pipeline[:2],
            dict(type='Resize', scale=_base_.scale, keep_ratio=True),
            dict(type='mmgwap.PackTeacherView'),
            *_base_.train_pipeline[2:],
        ]
    ),
)
val_evaluator = _base_.val_evaluator[:1]
test_evaluator = val_evaluator
custom_hooks = [*_base_.custom_hooks, dict(type='mmgwap.MeanTeacherHook', momentum=0.01)]
auto_scale_lr = dict(base_batch_size=8)
