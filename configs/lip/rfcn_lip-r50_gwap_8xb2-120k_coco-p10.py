_base_ = '../gwap/rfcn_r50_gwap_8xb2-120k_coco-p10.py'

model = dict(
    detector=dict(
        backbone=dict(
            type='mmgwap.LIPResNet', init_cfg=dict(checkpoint='checkpoints/lip_resnet-50.pth')
        )
    )
)
