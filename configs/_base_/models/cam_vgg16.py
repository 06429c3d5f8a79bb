# VGG16-GAP of the CAM paper: VGG-16 up to conv5-3 and a 3x3 convolution of 1024
# channels. Maps have stride 16, 14x14 at 224 px.
_base_ = 'image_classifier.py'

model = dict(
    backbone=dict(
        type='mmgwap.VGG',
        depth=16,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://vgg16'),
    ),
    cls_head=dict(in_channels=512, num_convs=1, feat_channels=1024, norm_cfg=None),
)
