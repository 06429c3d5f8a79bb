_base_ = 'rfcn_r50_teacher_8xb2-120k_coco-p10.py'

train_dataloader = dict(dataset=dict(percent=5))
