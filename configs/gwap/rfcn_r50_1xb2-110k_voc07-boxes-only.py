_base_ = '../rfcn/rfcn_r50_1xb2-110k_voc0712.py'

# VOC 2007 alone.
train_dataloader = dict(dataset=dict(datasets=_base_.train_dataloader.dataset.datasets[:1]))
