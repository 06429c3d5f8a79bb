# All boxes.
_base_ = [
    '../_base_/models/faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/datasets/highway.py',
    '../_base_/schedules/adamw_600.py',
    '../_base_/default_runtime.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=5)))
default_hooks = dict(checkpoint=dict(interval=300))
