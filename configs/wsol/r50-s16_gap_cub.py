# res5 keeps its resolution: maps of stride 16.
_base_ = 'r50_gap_cub.py'

model = dict(backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)))
