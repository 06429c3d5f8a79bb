# ResNet-50, which ends in global average pooling itself. Maps have stride 32, 7x7 at
# 224 px. The same weights give finer maps with dilation instead of stride:
# stride 16: strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)
# stride  8: strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)
_base_ = 'image_classifier.py'

model = dict(
    backbone=dict(
        type='ResNet',
        depth=50,
        out_indices=(3,),
        norm_eval=False,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    cls_head=dict(in_channels=2048),
)
