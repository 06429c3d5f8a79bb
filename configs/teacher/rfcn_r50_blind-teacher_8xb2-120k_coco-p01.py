# The label-blind control: the same images and steps, labels are not used.
_base_ = 'rfcn_r50_teacher_8xb2-120k_coco-p01.py'

model = dict(guided=False)
