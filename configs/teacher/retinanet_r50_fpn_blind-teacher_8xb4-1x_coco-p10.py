# The label-blind control: the same images and steps, labels are not used.
_base_ = 'retinanet_r50_fpn_teacher_8xb4-1x_coco-p10.py'

model = dict(guided=False)
