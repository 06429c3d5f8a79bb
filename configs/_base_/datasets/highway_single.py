# Street photographs with objects of one class each, for localization from image labels. Make the
# metadata with
# python tools/dataset_converters/make_wsol_metadata.py coco data/highway data/highway-single
# The photographs lie in data/highway, or in highway/ of the folder that the environment variable
# MMGWAP_DATA names.
_base_ = 'ilsvrc_cls_loc.py'

metadata_root = 'data/highway-single/'
dataset = dict(
    data_root='',
    data_prefix=dict(img='{{$MMGWAP_DATA:data}}/highway/images/'),
    metainfo=dict(classes=('bus', 'car', 'motorbike', 'person', 'truck')),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(metadata_root=metadata_root + 'train/', **dataset),
)
val_dataloader = dict(
    batch_size=16, num_workers=1, dataset=dict(metadata_root=metadata_root + 'val/', **dataset)
)
test_dataloader = val_dataloader

val_evaluator = dict(metadata_root=metadata_root + 'val/')
test_evaluator = val_evaluator
