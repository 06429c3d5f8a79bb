# Beside its twin with a plain ResNet, rfcn/rfcn_r18_digits.py.
_base_ = '../rfcn/rfcn_r18_digits.py'

model = dict(backbone=dict(type='mmgwap.LIPResNet'))
