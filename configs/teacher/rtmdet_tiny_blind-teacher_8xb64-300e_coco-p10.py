# The label-blind control: the same images and steps, labels are not used.
_base_ = 'rtmdet_tiny_teacher_8xb64-300e_coco-p10.py'

model = dict(guided=False)
