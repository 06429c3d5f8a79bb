_base_ = [
    '../_base_/models/cam_r50.py',
    '../_base_/datasets/openimages30k.py',
    '../_base_/schedules/wsol_10e.py',
]

model = dict(cls_head=dict(num_classes=100))
