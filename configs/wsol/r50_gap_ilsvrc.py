_base_ = [
    '../_base_/models/cam_r50.py',
    '../_base_/datasets/ilsvrc_cls_loc.py',
    '../_base_/schedules/wsol_10e.py',
]
