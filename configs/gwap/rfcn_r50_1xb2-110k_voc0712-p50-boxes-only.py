_base_ = 'rfcn_r50_1xb2-110k_voc0712-p10-boxes-only.py'

train_dataloader = dict(dataset=dict(percent=50))
