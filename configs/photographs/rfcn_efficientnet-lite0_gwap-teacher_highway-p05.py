# The teacher, and the image-level branch in teacher and student.
_base_ = 'rfcn_efficientnet-lite0_teacher_highway-p05.py'

model = dict(
    detector=dict(
        _delete_=True,
        type='mmgwap.MultiTaskDetector',
        detector=_base_.model.detector,
        cls_head=dict(
            type='mmgwap.ImageClsHead',
            source='backbone',
            num_classes=5,
            in_channels=320,
            loss=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=0.2),
        ),
    )
)
# The head starts from random weights, the detector from the first stage.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'cls_head': dict(lr_mult=10)}))
val_evaluator = [_base_.val_evaluator, dict(type='mmgwap.MultiLabelMetric', classwise=False)]
test_evaluator = val_evaluator
