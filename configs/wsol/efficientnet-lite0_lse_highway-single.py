_base_ = 'efficientnet-lite0_gap_highway-single.py'

model = dict(cls_head=dict(pool=dict(type='mmgwap.LogSumExpPool')))
