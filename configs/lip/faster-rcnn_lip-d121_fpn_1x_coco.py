_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', '../_base_/custom_hooks.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmgwap.LIPDenseNet',
        depth=121,
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/lip_densenet-121.pth'),
    ),
    neck=dict(in_channels=[256, 512, 1024, 1024]),
)
default_hooks = dict(checkpoint=dict(type='mmgwap.AtomicCheckpointHook'))
