# GoogLeNet-GAP of the CAM paper: up to inception4e, maps of stride 16, 14x14 at
# 224 px.  Its pretrained weights expect images from -1 to 1.
_base_ = 'cam_alexnet.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(type='mmgwap.GoogLeNet', init_cfg=dict(checkpoint='torchvision://googlenet')),
    cls_head=dict(in_channels=832),
)
