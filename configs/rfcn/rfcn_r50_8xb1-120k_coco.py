_base_ = [
    '../_base_/models/rfcn_r50.py',
    '../_base_/datasets/coco.py',
    '../_base_/schedules/rfcn_coco.py',
    '../_base_/default_runtime.py',
]
