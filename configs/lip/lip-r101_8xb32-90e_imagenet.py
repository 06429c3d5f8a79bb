_base_ = 'lip-r50_8xb32-90e_imagenet.py'

model = dict(backbone=dict(depth=101))
