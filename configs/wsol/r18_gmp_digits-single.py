_base_ = 'r18_gap_digits-single.py'

model = dict(cls_head=dict(pool=dict(type='mmgwap.GlobalMaxPool')))
