_base_ = '../rfcn/rfcn_r50_8xb1-120k_coco.py'

# The tenth of the images that has boxes in the GWAP config, and no other images.
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmgwap.PartialBoxDataset',
        percent=10,
        boxes_only=True,
        dataset=_base_.train_dataloader.dataset,
    )
)
