_base_ = 'googlenet_gap_ilsvrc.py'

model = dict(cls_head=dict(pool=dict(type='mmgwap.ClassAgnosticGWAP')))
