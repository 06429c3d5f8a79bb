_base_ = 'rfcn_r50_8xb1-120k_coco-p10-boxes-only.py'

train_dataloader = dict(dataset=dict(percent=30))
