# Small R-FCN trained from scratch: ResNet-18 with half the channels, anchors of 24 and
# 48 px, few RoIs, bilinear sampling. Set `num_classes`.
_base_ = 'rfcn_r50.py'

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(mean=[128.0, 128.0, 128.0], std=[64.0, 64.0, 64.0], pad_size_divisor=16),
    backbone=dict(
        depth=18,
        base_channels=32,
        dilations=(1, 1, 1, 1),
        frozen_stages=-1,
        norm_cfg=norm_cfg,
        norm_eval=False,
        init_cfg=None,
    ),
    rpn_head=dict(in_channels=128, feat_channels=128, anchor_generator=dict(scales=[1.5, 3.0])),
    roi_head=dict(
        bbox_roi_extractor=dict(mode='align'),
        bbox_head=dict(
            in_channels=256,
            feat_channels=128,
            # The paper's Gaussian (std 0.01) is for pretrained backbones.
            init_cfg=dict(type='Kaiming', layer='Conv2d', mode='fan_in', nonlinearity='linear'),
        ),
    ),
    train_cfg=dict(
        rpn=dict(allowed_border=-1),
        rpn_proposal=dict(nms_pre=1000, max_per_img=100),
        rcnn=dict(assigner=dict(neg_iou_thr=0.5), sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=100), rcnn=dict(max_per_img=20)),
)
