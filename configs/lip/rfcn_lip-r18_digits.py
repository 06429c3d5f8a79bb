# rfcn/rfcn_r18_digits.py with LIP in the backbone.
_base_ = '../rfcn/rfcn_r18_digits.py'

model = dict(backbone=dict(type='mmgwap.LIPResNet'))
