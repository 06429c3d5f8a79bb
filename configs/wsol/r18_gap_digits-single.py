# Trained from scratch in minutes on two CPU cores. The head has ten times the learning
# rate of the backbone.
_base_ = [
    '../_base_/models/cam_r18_small.py',
    '../_base_/datasets/digits_single.py',
    '../_base_/schedules/adamw_2000.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'cls_head': dict(lr_mult=10)}))
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(checkpoint=dict(interval=500), logger=dict(interval=50))
