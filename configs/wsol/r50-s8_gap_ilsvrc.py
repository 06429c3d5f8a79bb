# res4 and res5 have dilation instead of stride, so maps have stride 8.
_base_ = 'r50_gap_ilsvrc.py'

model = dict(backbone=dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)))
