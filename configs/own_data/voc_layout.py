# R-FCN on your own photographs in VOC layout. Copy this file and change:
data_root = 'data/own/'  # holds JPEGImages/, Annotations/, ImageSets/
classes = ('cat', 'dog')  # as in the <name> of the XML files
train_list = 'ImageSets/Main/train.txt'
val_list = 'ImageSets/Main/val.txt'
max_iters = 10000  # of 2 images; the learning rate drops at three quarters

# The rest can stay as it is.
_base_ = '../rfcn/rfcn_r50_ohem_1xb2-110k_voc0712.py'
own = dict(
    type='mmgwap.CheckedXMLDataset',
    data_root=data_root,
    metainfo=dict(classes=classes),
    data_prefix=dict(sub_data_root=''),
)
model = dict(roi_head=dict(bbox_head=dict(num_classes=len(classes))))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **own,
        ann_file=train_list,
        filter_cfg=dict(filter_empty_gt=False, min_size=32),
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True, **own, ann_file=val_list, test_mode=True, pipeline=_base_.test_pipeline
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(eval_mode='area')
test_evaluator = val_evaluator

train_cfg = dict(max_iters=max_iters, val_interval=1000)
param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=max_iters,
        by_epoch=False,
        milestones=[max_iters * 3 // 4],
        gamma=0.1,
    )
]
default_hooks = dict(checkpoint=dict(interval=1000))
