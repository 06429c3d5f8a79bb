# All boxes, with the schedule of the configs with few boxes.
_base_ = [
    '../_base_/models/rfcn_r18_small.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/adamw_1000.py',
    '../_base_/default_runtime.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))
default_hooks = dict(checkpoint=dict(interval=500), logger=dict(interval=50))
