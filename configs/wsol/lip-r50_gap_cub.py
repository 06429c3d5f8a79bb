_base_ = 'r50_gap_cub.py'

model = dict(
    backbone=dict(
        type='mmgwap.LIPResNet', init_cfg=dict(checkpoint='checkpoints/lip_resnet-50.pth')
    )
)
