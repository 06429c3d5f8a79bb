# res5 has dilation instead of stride, so maps have stride 16.
_base_ = 'r50_gap_ilsvrc.py'

model = dict(backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)))
