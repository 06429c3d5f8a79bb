_base_ = ['../gwap/rfcn_r50_gwap_8xb2-120k_coco-p10.py', '../_base_/strong_view.py']

model = dict(
    _delete_=True,
    type='mmgwap.LabelGuidedTeacher',
    detector=_base_.model.detector,  # without the image-level branch; with it: _base_.model
    burn_in=10000,
)
train_dataloader = dict(
    dataset=dict(
        label_pipeline=[
            *_base_.train_pipeline[:-1],
            dict(type='mmgwap.PackTeacherView'),
            *_base_.strong_view,
            _base_.train_pipeline[-1],
        ]
    )
)
val_evaluator = _base_.val_evaluator[:1]
test_evaluator = val_evaluator
custom_hooks = [*_base_.custom_hooks, dict(type='mmgwap.MeanTeacherHook')]
