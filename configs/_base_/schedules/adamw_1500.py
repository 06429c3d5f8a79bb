# 1,500 iterations: the second stage of training from scratch.
_base_ = 'adamw_2500.py'

max_iters = 1500
train_cfg = dict(max_iters=max_iters, val_interval=500)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(type='CosineAnnealingLR', begin=100, end=max_iters, eta_min=1e-5, by_epoch=False),
]
