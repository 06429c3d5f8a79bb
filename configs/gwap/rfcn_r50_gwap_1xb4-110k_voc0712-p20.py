_base_ = 'rfcn_r50_gwap_1xb4-110k_voc0712-p10.py'

train_dataloader = dict(dataset=dict(percent=20))
