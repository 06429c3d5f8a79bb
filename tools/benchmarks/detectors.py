"""Detectors with random weights, and their steps.

The same ResNet, the same image, the same number of proposals; in training each
head takes all of them, with OHEM the 128 hardest.
"""

from pathlib import Path
from typing import Callable

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData

CONFIG_FOLDER = Path(__file__).resolve().parents[2] / 'configs'
OBJECTS = 8
CONFIGS = {
    'R-FCN': 'rfcn/rfcn_r50_8xb1-120k_coco.py',
    'R-FCN, GWAP branch': 'gwap/rfcn_r50_gwap_8xb2-120k_coco-p10.py',
    'R-FCN, OHEM': 'rfcn/rfcn_r50_ohem_8xb1-120k_coco.py',
    'Faster R-CNN C4': 'mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py',
    'Faster R-CNN FPN': 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
}


def build(name: str, depth: int, proposals: int, num_classes: int = 80) -> torch.nn.Module:
    """The detector with random weights and so many proposals, on the CPU."""
    whole = _load(name)
    model = whole.get('detector', whole)
    model.backbone.init_cfg = None
    if model.roi_head.get('shared_head'):
        model.roi_head.shared_head.init_cfg = None
    _set_depth(whole, model, depth)
    model.roi_head.bbox_head.num_classes = num_classes
    for settings in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        settings.update(nms_pre=6000, max_per_img=proposals)
    if model.train_cfg.rcnn.sampler.type == 'RandomSampler':
        # All of them: a quota of positives would leave some out.
        model.train_cfg.rcnn.sampler.update(num=proposals, pos_fraction=1.0)
        model.train_cfg.rcnn.assigner.update(neg_iou_thr=0.5)
    # Random weights score every box about 1 / 81: keep none, as a trained
    # detector keeps few, so that the last NMS does not drown the rest.
    model.test_cfg.rcnn.score_thr = 0.5
    built = MODELS.build(whole)
    built.init_weights()
    return built


def build_roi_head(name: str, num_classes: int) -> torch.nn.Module:
    """The RoI head of a detector on ResNet-50 or deeper."""
    model = _load(name)
    head = model.roi_head
    head.bbox_head.num_classes = num_classes
    if head.get('shared_head'):
        head.shared_head.init_cfg = None
    return MODELS.build(dict(head, train_cfg=None, test_cfg=model.test_cfg.rcnn))


def build_res5() -> torch.nn.Module:
    """The last stage of R-FCN's ResNet-50: (B, 1024, H, W) to (B, 2048, H, W)."""
    return MODELS.build(dict(_load('R-FCN').backbone, init_cfg=None)).layer4


def _load(name: str) -> ConfigDict:
    """The model of a config of ours, or of the installed mmdet's."""
    register_all_modules()
    MMLogger.get_current_instance().setLevel('ERROR')
    path = CONFIGS[name]
    return (
        get_config(path) if path.startswith('mmdet::') else Config.fromfile(CONFIG_FOLDER / path)
    ).model


def _set_depth(whole: ConfigDict, model: ConfigDict, depth: int) -> None:
    """Change it from 50; below that, a ResNet has a quarter of the channels."""
    model.backbone.depth = depth
    head = model.roi_head
    if head.get('shared_head'):
        head.shared_head.depth = depth
    if depth >= 50:
        return
    if model.get('neck'):
        model.neck.in_channels = [n // 4 for n in model.neck.in_channels]
        return
    model.rpn_head.in_channels //= 4
    head.bbox_head.in_channels //= 4
    if 'out_channels' in head.bbox_roi_extractor:
        head.bbox_roi_extractor.out_channels //= 4
    if 'cls_head' in whole:
        whole.cls_head.in_channels //= 4


def make_sample(size: tuple[int, int], device: torch.device) -> tuple:
    """An image of noise, (1, 3, H, W), and its boxes."""
    height, width = size
    torch.manual_seed(0)
    sides = torch.tensor([width, height])
    start = torch.rand(OBJECTS, 2) * sides * 0.6
    extent = 32 + torch.rand(OBJECTS, 2) * sides * 0.3
    sample = DetDataSample(
        metainfo=dict(
            img_shape=size,
            ori_shape=size,
            batch_input_shape=size,
            pad_shape=size,
            scale_factor=(1.0, 1.0),
            img_id=0,
        )
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.cat([start, start + extent], dim=1), labels=torch.randint(0, 80, (OBJECTS,))
    )
    sample.ignored_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
    )
    return torch.randn(1, 3, height, width).to(device), sample.to(device)


def training_step(
    model: torch.nn.Module, image: torch.Tensor, sample: DetDataSample
) -> Callable[[], None]:
    """Forward, backward and SGD with a rate of 0, which keeps the weights."""
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.0)

    def step() -> None:
        losses = model.loss(image, [sample.clone()])
        model.parse_losses(losses)[0].backward()
        optimizer.step()
        optimizer.zero_grad()  # now, that its peak holds the gradients

    return step


def inference(
    model: torch.nn.Module, image: torch.Tensor, sample: DetDataSample
) -> Callable[[], None]:
    """From the image to the boxes."""
    model.eval()

    @torch.no_grad()
    def run() -> None:
        model.predict(image, [sample.clone()], rescale=False)

    return run
