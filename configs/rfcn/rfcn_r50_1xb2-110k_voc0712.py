_base_ = [
    '../_base_/models/rfcn_r50.py',
    '../_base_/datasets/voc0712.py',
    '../_base_/schedules/rfcn_voc.py',
    '../_base_/default_runtime.py',
]

model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[8, 16, 32])),
    roi_head=dict(bbox_head=dict(num_classes=20)),
)
