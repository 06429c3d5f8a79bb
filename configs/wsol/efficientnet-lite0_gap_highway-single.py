# Photographs of one class each, from ImageNet weights. The batch norms and the stages up to stride
# 8 are frozen; the head has ten times the learning rate of the backbone.
_base_ = [
    '../_base_/models/cam_efficientnet-lite0.py',
    '../_base_/datasets/highway_single.py',
    '../_base_/schedules/adamw_600.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        output_stride=16,
        frozen_stages=3,
        norm_cfg=dict(type='BN', eps=1e-3, requires_grad=False),
        norm_eval=True,
        init_cfg=_base_.model.init_cfg,
    ),
    cls_head=dict(num_classes=5),
    init_cfg=None,  # the classifier of the 1,000 classes is not used
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'cls_head': dict(lr_mult=10)}))
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(checkpoint=dict(interval=300))
