# The image-level branch alone: images with labels only give no detection losses.
_base_ = 'rfcn_efficientnet-lite0_gwap-teacher_aquarium-p10.py'

model = dict(pseudo_weight=0)
