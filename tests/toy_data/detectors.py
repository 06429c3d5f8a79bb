"""Detectors small enough for a training step in a few hundredths of a second."""

from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config

CONFIGS = dict(
    faster_rcnn='faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    retinanet='retinanet/retinanet_r50_fpn_1x_coco.py',
    rtmdet='rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    detr='detr/detr_r50_8xb2-150e_coco.py',
)
DETECTORS = ('rfcn', *CONFIGS)

# Channels of the last feature map of each backbone.
LAST_CHANNELS = dict(rfcn=64, faster_rcnn=64, retinanet=64, rtmdet=128, detr=64)
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
    """Return the config of an R-FCN with 0.2 million random parameters."""
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
    """Return a config that trains :func:`tiny_rfcn` on digits in clutter.

    Args:
        configs (Path): folder ``configs/`` of the repository.
        data_root (Path): folder that make_digits.py wrote.
        iterations (int): number of iterations of 4 images.
        **changes: values by dotted key, merged last.
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


def tiny_detector(name: str, num_classes: int = 4) -> ConfigDict:
    """Return the config of one of ``DETECTORS``, with random weights.

    The configs are those of the installed mmdet (except R-FCN) with fewer and narrower
    layers and unchanged losses and assigners.
    """
    if name == 'rfcn':
        return tiny_rfcn(num_classes)
    cfg = Config(dict(get_config(f'mmdet::{CONFIGS[name]}').model))
    cfg.merge_from_dict(SMALLER[name])
    head = cfg.roi_head.bbox_head if name == 'faster_rcnn' else cfg.bbox_head
    head.num_classes = num_classes
    return ConfigDict(cfg.to_dict())


def _resnet(neck_channels: int) -> dict:
    return {
        'backbone.depth': 18,
        'backbone.base_channels': 8,
        'backbone.frozen_stages': -1,
        'backbone.norm_eval': False,
        'backbone.norm_cfg.requires_grad': True,
        'backbone.init_cfg': None,
        'neck.in_channels': [8, 16, 32, 64],
        'neck.out_channels': neck_channels,
    }


def _attention(part: str, dims: int) -> dict:
    """Changes that reduce a transformer's encoder or decoder to one layer."""
    names = ['self_attn_cfg', 'ffn_cfg']
    names += ['cross_attn_cfg'] * (part == 'decoder')
    layer = {f'{part}.layer_cfg.{name}.embed_dims': dims for name in names}
    return {
        f'{part}.num_layers': 1,
        **layer,
        f'{part}.layer_cfg.ffn_cfg.feedforward_channels': 2 * dims,
    }


SMALLER = dict(
    faster_rcnn={
        **_resnet(16),
        'rpn_head.in_channels': 16,
        'rpn_head.feat_channels': 16,
        'roi_head.bbox_roi_extractor.out_channels': 16,
        'roi_head.bbox_head.in_channels': 16,
        'roi_head.bbox_head.fc_out_channels': 32,
        'train_cfg.rpn_proposal.max_per_img': 50,
        'train_cfg.rcnn.sampler.num': 32,
    },
    retinanet={
        **_resnet(16),
        'bbox_head.in_channels': 16,
        'bbox_head.feat_channels': 16,
        'bbox_head.stacked_convs': 1,
    },
    rtmdet={
        'backbone.widen_factor': 0.125,
        'backbone.init_cfg': None,
        'neck.in_channels': [32, 64, 128],
        'neck.out_channels': 32,
        'bbox_head.in_channels': 32,
        'bbox_head.feat_channels': 32,
        # Synchronized batch norm needs a GPU.
        'use_syncbn': False,
        'backbone.norm_cfg.type': 'BN',
        'neck.norm_cfg.type': 'BN',
        'bbox_head.norm_cfg.type': 'BN',
    },
    detr={
        **_resnet(32),
        'neck.in_channels': [64],
        'num_queries': 20,
        **_attention('encoder', 32),
        **_attention('decoder', 32),
        'positional_encoding.num_feats': 16,
        'bbox_head.embed_dims': 32,
        'test_cfg.max_per_img': 20,
    },
)
