# The label-blind control: the same images and steps, labels are not used.
_base_ = 'faster-rcnn_efficientnet-lite0_fpn_teacher_highway-p05.py'

model = dict(guided=False)
