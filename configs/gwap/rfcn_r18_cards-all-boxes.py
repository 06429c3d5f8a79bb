# All boxes, with the schedule of the configs with few boxes.
_base_ = [
    '../_base_/models/rfcn_r18_small.py',
    '../_base_/datasets/cards.py',
    '../_base_/schedules/adamw_1000.py',
    '../_base_/default_runtime.py',
]

model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[3.0, 6.0])),
    roi_head=dict(bbox_head=dict(num_classes=6)),
)
default_hooks = dict(checkpoint=dict(interval=500), logger=dict(interval=50))
