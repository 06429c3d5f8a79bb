# 10 epochs with batches of 32 images, from ImageNet weights. The learning rate is ours;
# epochs, batch size and steps are those of the WSOL evaluation. The new layers have ten
# times the learning rate.
_base_ = '../default_runtime.py'

max_epochs = 10
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=1e-4, nesterov=True),
    paramwise_cfg=dict(custom_keys={'cls_head': dict(lr_mult=10)}),
)
param_scheduler = [
    dict(type='StepLR', step_size=3, gamma=0.1, begin=0, end=max_epochs, by_epoch=True)
]
auto_scale_lr = dict(enable=False, base_batch_size=32)
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1))
log_processor = dict(by_epoch=True)
