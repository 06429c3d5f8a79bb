_base_ = 'vgg16_gap_cub.py'

model = dict(cls_head=dict(pool=dict(type='mmgwap.ClassSpecificGWAP')))
