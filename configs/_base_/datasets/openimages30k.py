# OpenImages30k of the WSOL evaluation: images and masks in train/, val/ and test/.
# Its folder metadata/OpenImages/ belongs into data/OpenImages/ as metadata/.
_base_ = 'ilsvrc_cls_loc.py'

data_root = 'data/OpenImages/'
images = dict(img='')
train_dataloader = dict(dataset=dict(data_root=data_root, data_prefix=images))
val_dataloader = dict(dataset=dict(data_root=data_root, data_prefix=images))
test_dataloader = dict(
    dataset=dict(data_root=data_root, metadata_root='metadata/test/', data_prefix=images)
)

val_evaluator = dict(metadata_root=data_root + 'metadata/val/', mask_root=data_root)
test_evaluator = dict(metadata_root=data_root + 'metadata/test/', mask_root=data_root)
