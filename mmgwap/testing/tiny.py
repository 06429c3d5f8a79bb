"""A detector that takes a training step in a few hundredths of a second."""

from pathlib import Path

from mmengine.config import Config, ConfigDict

ASSIGNER = dict(
    type='MaxIoUAssigner',
    pos_iou_thr=0.5,
    neg_iou_thr=0.5,
    min_pos_iou=0.5,
    match_low_quality=True,
    ignore_iof_thr=-1,
)
PROPOSALS = dict(
    nms_pre=100, max_per_img=30, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0
)


def tiny_rfcn(
    num_classes: int = 4,
    k: int = 3,
    mode: str = 'align',
    reg_class_agnostic: bool = True,
    ohem: bool = False,
) -> ConfigDict:
    """Config of an R-FCN with 0.2 million parameters and random weights."""
    sampler = (
        dict(type='mmgwap.RFCNOHEMSampler', num=16)
        if ohem
        else dict(type='RandomSampler', num=16, pos_fraction=0.25)
    )
    return ConfigDict(
        type='mmgwap.RFCN',
        data_preprocessor=dict(
            type='DetDataPreprocessor',
            mean=[128.0] * 3,
            std=[64.0] * 3,
            bgr_to_rgb=True,
            pad_size_divisor=16,
        ),
        backbone=dict(
            type='ResNet',
            depth=18,
            base_channels=8,
            strides=(1, 2, 2, 1),
            out_indices=(2, 3),
            norm_eval=False,
            norm_cfg=dict(type='BN', requires_grad=True),
        ),
        rpn_head=dict(
            type='RPNHead',
            in_channels=32,
            feat_channels=16,
            anchor_generator=dict(
                type='AnchorGenerator', scales=[1, 3], ratios=[0.5, 1.0, 2.0], strides=[16]
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        ),
        roi_head=dict(
            type='mmgwap.RFCNRoIHead',
            bbox_roi_extractor=dict(type='mmgwap.PSRoIExtractor', output_size=k, mode=mode),
            bbox_head=dict(
                type='mmgwap.RFCNBBoxHead',
                in_channels=64,
                feat_channels=16,
                output_size=k,
                num_classes=num_classes,
                reg_class_agnostic=reg_class_agnostic,
            ),
        ),
        train_cfg=dict(
            rpn=dict(
                assigner=ASSIGNER,
                allowed_border=-1,
                pos_weight=-1,
                debug=False,
                sampler=dict(
                    type='RandomSampler', num=32, pos_fraction=0.5, add_gt_as_proposals=False
                ),
            ),
            rpn_proposal=PROPOSALS,
            rcnn=dict(
                assigner=dict(ASSIGNER, match_low_quality=False),
                sampler=sampler,
                pos_weight=-1,
                debug=False,
            ),
        ),
        test_cfg=dict(
            rpn=PROPOSALS,
            rcnn=dict(score_thr=0.0, max_per_img=10, nms=dict(type='nms', iou_threshold=0.3)),
        ),
    )


def tiny_rfcn_run(configs: Path, data_root: Path, iterations: int = 8, **changes) -> Config:
    """Config of a run of :func:`tiny_rfcn` on digits in clutter.

    Args:
        configs (Path): the folder of that name.
        data_root (Path): made by make_digits.py.
        iterations (int): of 4 images each.
        **changes: dotted keys and values, merged last.
    """
    cfg = Config.fromfile(configs / 'rfcn' / 'rfcn_r18_digits.py')
    cfg.model = tiny_rfcn(num_classes=10)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = f'{data_root}/'
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = f'{data_root}/annotations/val.json'
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    cfg.default_hooks.checkpoint.interval = max(1, iterations // 2)
    cfg.default_hooks.logger.interval = 1
    cfg.merge_from_dict(changes)
    return cfg
