_base_ = 'rfcn_r101_ohem_8xb1-120k_coco.py'

# Multi-scale training of the paper.
load_image = _base_.load_image
train_pipeline = [
    load_image,
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='RandomChoiceResize',
        scales=[(side * 5 // 3, side) for side in (400, 500, 600, 700, 800)],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
