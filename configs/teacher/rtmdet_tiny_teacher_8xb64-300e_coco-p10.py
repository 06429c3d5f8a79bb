_base_ = ['../gwap/rtmdet_tiny_gwap_8xb64-300e_coco-p10.py', '../_base_/strong_view.py']

model = dict(
    _delete_=True,
    type='mmgwap.LabelGuidedTeacher',
    detector=_base_.model.detector,  # without the image-level branch; with it: _base_.model
    burn_in=10000,
)
train_dataloader = dict(
    dataset=dict(
        # Without the random crops of RTMDet, which lose labelled objects. The network needs sides
        # that are multiples of 32, so the teacher's view is padded too.
        label_pipeline=[
            *_base_.train_pipeline[:2],
            dict(type='Resize', scale=(640, 640), keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='Pad', size=(640, 640), pad_val=dict(img=(114, 114, 114))),
            dict(type='mmgwap.PackTeacherView'),
            *_base_.strong_view,
            dict(type='PackDetInputs'),
        ]
    )
)
val_evaluator = _base_.val_evaluator[:1]
test_evaluator = val_evaluator
# Without RTMDet's EMAHook, the first hook: the teacher is a moving average already.
custom_hooks = [*_base_.custom_hooks[1:], dict(type='mmgwap.MeanTeacherHook')]
