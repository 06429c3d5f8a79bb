# CUB-200-2011: training on train, testing on test. Make the metadata with
# python tools/dataset_converters/make_wsol_metadata.py cub \
#     data/CUB_200_2011 data/CUB_200_2011/metadata
_base_ = 'ilsvrc_cls_loc.py'

data_root = 'data/CUB_200_2011/'
images = dict(img='images/')
train_dataloader = dict(dataset=dict(data_root=data_root, data_prefix=images))
val_dataloader = dict(
    dataset=dict(data_root=data_root, metadata_root='metadata/test/', data_prefix=images)
)
test_dataloader = val_dataloader

val_evaluator = dict(metadata_root=data_root + 'metadata/test/')
test_evaluator = val_evaluator
