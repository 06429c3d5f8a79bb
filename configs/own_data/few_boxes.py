# Photographs with boxes, and more photographs with image labels only. Copy this file
# and voc_layout.py (or coco_layout.py, yolo_layout.py) and change:
_base_ = 'voc_layout.py'
label_file = 'labels.csv'  # columns image and label, one row per label
label_images = 'labelled/'  # folder of the images in label_file

# The rest can stay as it is.
model = dict(
    _delete_=True,
    type='mmgwap.MultiTaskDetector',
    detector=_base_.model,
    cls_head=dict(
        type='mmgwap.ImageClsHead',
        source='backbone',
        num_classes=len(_base_.classes),
        in_channels=2048,
    ),
)
train_dataloader = dict(
    batch_size=4,
    batch_sampler=dict(_delete_=True, type='mmgwap.PartialBoxBatchSampler', num_boxed=2),
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        ignore_keys=['palette', 'dataset_type'],
        datasets=[
            _base_.train_dataloader.dataset,
            dict(
                type='mmgwap.ImageLabelDataset',
                format='csv',
                data_root=_base_.data_root,
                ann_file=label_file,
                data_prefix=dict(img=label_images),
                metainfo=dict(classes=_base_.classes),
                pipeline=_base_.train_pipeline,
            ),
        ],
    ),
)
val_evaluator = [_base_.val_evaluator, dict(type='mmgwap.MultiLabelMetric')]
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=4)
