# GoogLeNet-GAP of the CAM paper: GoogLeNet up to inception4e and a 3x3 convolution
# of 1024 channels. Maps have stride 16, 14x14 at 224 px. The pretrained weights
# expect pixel values from -1 to 1.
_base_ = 'image_classifier.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type='mmgwap.GoogLeNet',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://googlenet'),
    ),
    cls_head=dict(in_channels=832, num_convs=1, feat_channels=1024, norm_cfg=None),
)
