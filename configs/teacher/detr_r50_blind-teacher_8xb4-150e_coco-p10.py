# The label-blind control: the same images and steps, labels are not used.
_base_ = 'detr_r50_teacher_8xb4-150e_coco-p10.py'

model = dict(guided=False)
