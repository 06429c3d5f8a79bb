# MD: modulated deformable convolution (DCNv2) in the blocks of res3 to res5 that do not
# downsample.
_base_ = 'faster-rcnn_lip-r101_fpn_2x_coco.py'

model = dict(
    backbone=dict(
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
    )
)
