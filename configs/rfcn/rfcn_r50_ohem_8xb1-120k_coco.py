_base_ = 'rfcn_r50_8xb1-120k_coco.py'

# Of all RoIs of an image, the 128 of highest loss; background is IoU [0, 0.5).
model = dict(
    train_cfg=dict(
        rcnn=dict(
            assigner=dict(neg_iou_thr=0.5),
            sampler=dict(_delete_=True, type='mmgwap.RFCNOHEMSampler', num=128),
        )
    )
)
