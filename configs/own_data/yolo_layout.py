# R-FCN on your own photographs in YOLO layout. Copy this file and change:
data_root = 'data/own/'  # holds data.yaml, which has train, val and names
classes = ('cat', 'dog')  # as in `names`
max_iters = 10000  # of 2 images; the learning rate drops at three quarters

# The rest can stay as it is.
_base_ = '../rfcn/rfcn_r50_ohem_8xb1-120k_coco.py'
own = dict(type='mmgwap.YOLODataset', data_root=data_root, metainfo=dict(classes=classes))
model = dict(roi_head=dict(bbox_head=dict(num_classes=len(classes))))
# Without an annotation file, CocoMetric takes the true boxes from `instances`.
meta_keys = (*_base_.meta_keys, 'instances')
test_pipeline = [*_base_.test_pipeline[:-1], dict(type='PackDetInputs', meta_keys=meta_keys)]
tta_pipeline = [
    _base_.tta_pipeline[0],
    dict(
        type='TestTimeAug',
        transforms=[
            *_base_.tta_pipeline[1].transforms[:-1],
            [dict(type='PackDetInputs', meta_keys=(*meta_keys, 'flip', 'flip_direction'))],
        ],
    ),
]
train_dataloader = dict(
    batch_size=2, dataset=dict(_delete_=True, **own, split='train', pipeline=_base_.train_pipeline)
)
val_dataloader = dict(
    dataset=dict(_delete_=True, **own, split='val', test_mode=True, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='CocoMetric', metric='bbox')
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
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(checkpoint=dict(interval=1000))
