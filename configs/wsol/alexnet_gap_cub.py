_base_ = [
    '../_base_/models/cam_alexnet.py',
    '../_base_/datasets/cub_200_2011.py',
    '../_base_/schedules/wsol_50e.py',
]

model = dict(cls_head=dict(num_classes=200))
