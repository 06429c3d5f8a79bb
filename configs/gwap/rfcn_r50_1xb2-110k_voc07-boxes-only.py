_base_ = '../rfcn/rfcn_r50_1xb2-110k_voc0712.py'

# Only VOC 2007.
train_dataloader = dict(dataset=dict(datasets=_base_.train_dataloader.dataset.datasets[:1]))
