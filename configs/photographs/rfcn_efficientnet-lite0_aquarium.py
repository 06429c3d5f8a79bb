# All boxes.
_base_ = [
    '../_base_/models/rfcn_efficientnet-lite0.py',
    '../_base_/datasets/aquarium.py',
    '../_base_/schedules/adamw_600.py',
    '../_base_/default_runtime.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=7)))
default_hooks = dict(checkpoint=dict(interval=300))
