# R-FCN on your own photographs with boxes in COCO JSON. Copy this file and change:
data_root = 'data/own/'  # ends with a slash
classes = ('cat', 'dog')  # names and order of `categories` in the JSON
train_json, train_images = 'annotations/train.json', 'train/'
val_json, val_images = 'annotations/val.json', 'val/'
max_iters = 10000  # of 2 images; the learning rate drops at three quarters

# The rest can stay as it is.
_base_ = '../rfcn/rfcn_r50_ohem_8xb1-120k_coco.py'
own = dict(data_root=data_root, metainfo=dict(classes=classes))
model = dict(roi_head=dict(bbox_head=dict(num_classes=len(classes))))
train_dataloader = dict(
    batch_size=2, dataset=dict(**own, ann_file=train_json, data_prefix=dict(img=train_images))
)
val_dataloader = dict(dataset=dict(**own, ann_file=val_json, data_prefix=dict(img=val_images)))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_json)
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
