_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmgwap'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        type='mmgwap.LIPResNet',
        init_cfg=dict(checkpoint='checkpoints/lip_resnet-50.pth')))
