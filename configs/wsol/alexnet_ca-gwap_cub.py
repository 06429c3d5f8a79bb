_base_ = 'alexnet_gap_cub.py'

model = dict(cls_head=dict(pool=dict(type='mmgwap.ClassAgnosticGWAP')))
