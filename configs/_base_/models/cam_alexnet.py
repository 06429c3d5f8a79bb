# AlexNet-GAP of the CAM paper (arXiv 1512.04150): AlexNet up to conv5 and a 3x3
# convolution of 1024 channels. Maps are 15x15 at 256 px, 13x13 at 224 px.
_base_ = 'image_classifier.py'

model = dict(
    backbone=dict(
        type='mmgwap.AlexNet', init_cfg=dict(type='Pretrained', checkpoint='torchvision://alexnet')
    ),
    cls_head=dict(in_channels=256, num_convs=1, feat_channels=1024, norm_cfg=None),
)
