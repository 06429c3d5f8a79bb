# 120k iterations of 8 images: learning rate 1e-3 for 90k iterations, then 1e-4.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=120000, val_interval=10000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=0.0005)
)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=120000, by_epoch=False, milestones=[90000], gamma=0.1)
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
