_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py', '../_base_/custom_hooks.py']

model = dict(
    backbone=dict(
        type='mmgwap.LIPResNet', init_cfg=dict(checkpoint='checkpoints/lip_resnet-50.pth')
    )
)
default_hooks = dict(checkpoint=dict(type='mmgwap.AtomicCheckpointHook'))
