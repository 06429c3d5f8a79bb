# The label-blind control: the same images and steps, labels are not used.
_base_ = 'rfcn_r18_teacher_cards-p20.py'

model = dict(guided=False)
