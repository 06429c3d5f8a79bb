# 5 % of the images, with boxes, and no other images: the first stage of training with labels.
_base_ = 'rfcn_efficientnet-lite0_highway.py'

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmgwap.PartialBoxDataset',
        percent=5,
        boxes_only=True,
        dataset=_base_.train_dataloader.dataset,
    )
)
