_base_ = 'r50_gap_ilsvrc.py'

model = dict(cls_head=dict(pool=dict(type='mmgwap.GlobalMaxPool')))
