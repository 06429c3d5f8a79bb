# The label-blind control: the same images and steps, labels are not used.
_base_ = 'rfcn_efficientnet-lite0_teacher_aquarium-p10.py'

model = dict(guided=False)
