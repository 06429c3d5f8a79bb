_base_ = 'rfcn_r50_1xb2-110k_voc0712.py'

model = dict(
    backbone=dict(depth=101, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'))
)
