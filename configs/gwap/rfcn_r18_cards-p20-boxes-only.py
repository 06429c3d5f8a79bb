# 20 % of the images, with boxes, and no other images: the first stage of training with
# labels, and the baseline of the second stage.
_base_ = 'rfcn_r18_cards-all-boxes.py'

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmgwap.PartialBoxDataset',
        percent=20,
        boxes_only=True,
        dataset=_base_.train_dataloader.dataset,
    )
)
