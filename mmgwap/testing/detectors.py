"""mmdet's own detectors, made small."""

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config

from .tiny import tiny_rfcn

CONFIGS = dict(
    faster_rcnn='faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    retinanet='retinanet/retinanet_r50_fpn_1x_coco.py',
    rtmdet='rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    detr='detr/detr_r50_8xb2-150e_coco.py',
)
DETECTORS = ('rfcn', *CONFIGS)

# Channels of the backbone's last feature map.
LAST_CHANNELS = dict(rfcn=64, faster_rcnn=64, retinanet=64, rtmdet=128, detr=64)


def tiny_detector(name: str, num_classes: int = 4) -> ConfigDict:
    """Config of one of ``DETECTORS``, with random weights.

    But for the R-FCN these are the configs of the installed mmdet, with fewer
    and narrower layers; losses, assigners and the rest are as they are there.
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
    """One layer of a transformer's encoder or decoder."""
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
        # Synchronised batch norm is for GPUs alone.
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
