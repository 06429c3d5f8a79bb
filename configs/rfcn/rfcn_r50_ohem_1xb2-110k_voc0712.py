_base_ = 'rfcn_r50_1xb2-110k_voc0712.py'

# The 128 RoIs of an image with the highest loss. Background has IoU in [0, 0.5).
model = dict(
    train_cfg=dict(
        rcnn=dict(
            assigner=dict(neg_iou_thr=0.5),
            sampler=dict(_delete_=True, type='mmgwap.RFCNOHEMSampler', num=128),
        )
    )
)
