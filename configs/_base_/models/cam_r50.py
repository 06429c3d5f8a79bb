# ResNet-50 as it is, which has global average pooling already: maps of stride
# 32, 7x7 at 224 px.  Finer ones with the same weights, of stride
# 16: strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)
#  8: strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)
_base_ = 'cam_alexnet.py'

model = dict(
    backbone=dict(
        type='ResNet',
        depth=50,
        out_indices=(3,),
        norm_eval=False,
        init_cfg=dict(checkpoint='torchvision://resnet50'),
    ),
    cls_head=dict(in_channels=2048, num_convs=0),
)
