# Small enough to train from scratch on two CPU cores in minutes.
_base_ = [
    '../_base_/models/rfcn_r50.py', '../_base_/datasets/digits.py',
    '../_base_/default_runtime.py'
]
max_iters = 1250

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(
        mean=[128., 128., 128.], std=[64., 64., 64.], pad_size_divisor=16),
    backbone=dict(
        depth=18,
        base_channels=32,
        dilations=(1, 1, 1, 1),
        frozen_stages=-1,
        norm_cfg=norm_cfg,
        norm_eval=False,
        init_cfg=None),
    rpn_head=dict(
        in_channels=128,
        feat_channels=128,
        anchor_generator=dict(scales=[1.5, 3.])),
    roi_head=dict(
        bbox_roi_extractor=dict(mode='align'),
        bbox_head=dict(
            in_channels=256,
            feat_channels=128,
            num_classes=10,
            # The paper's Gaussian of std 0.01 suits a pretrained backbone.
            init_cfg=dict(type='Kaiming', layer='Conv2d', mode='fan_in',
                          nonlinearity='linear'))),
    train_cfg=dict(
        rpn=dict(allowed_border=-1),
        rpn_proposal=dict(nms_pre=1000, max_per_img=100),
        rcnn=dict(
            assigner=dict(neg_iou_thr=0.5), sampler=dict(num=64))),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=100), rcnn=dict(max_per_img=20)))

train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=100, by_epoch=False),
    dict(
        type='CosineAnnealingLR', begin=100, end=max_iters, eta_min=1e-5,
        by_epoch=False)
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
default_hooks = dict(
    checkpoint=dict(interval=250),
    logger=dict(interval=25))
randomness = dict(seed=0)
