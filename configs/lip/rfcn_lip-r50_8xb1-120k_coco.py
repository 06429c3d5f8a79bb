_base_ = '../rfcn/rfcn_r50_8xb1-120k_coco.py'

model = dict(
    backbone=dict(
        type='mmgwap.LIPResNet', init_cfg=dict(checkpoint='checkpoints/lip_resnet-50.pth')
    )
)
