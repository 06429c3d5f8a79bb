# VGG16-GAP of the CAM paper: up to conv5-3, maps of stride 16, 14x14 at 224 px.
_base_ = 'cam_alexnet.py'

model = dict(
    backbone=dict(type='mmgwap.VGG', depth=16, init_cfg=dict(checkpoint='torchvision://vgg16')),
    cls_head=dict(in_channels=512),
)
