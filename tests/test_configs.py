"""Every config parses, builds and takes a training step."""
from pathlib import Path

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

register_all_modules()
FOLDER = Path(__file__).resolve().parents[1] / 'configs'
CONFIGS = sorted(FOLDER.glob('[!_]*/*.py'))
PAPER = [path for path in CONFIGS if 'voc' in path.stem or 'coco' in path.stem]


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def cfg(request):
    return Config.fromfile(request.param)


def test_there_are_configs():
    names = {path.stem for path in CONFIGS}
    for depth in (50, 101):
        for ohem in ('', '_ohem'):
            assert f'rfcn_r{depth}{ohem}_1xb2-110k_voc0712' in names
            assert f'rfcn_r{depth}{ohem}_8xb1-120k_coco' in names
    assert 'rfcn_r18_digits' in names


def test_a_training_step(cfg):
    if cfg.model.backbone.depth > 50:
        cfg.model.backbone.depth = 50  # the same layers, fewer of them
    weights = cfg.model.backbone.init_cfg
    assert weights is None or weights.checkpoint.startswith('torchvision://')
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    classes = cfg.model.roi_head.bbox_head.num_classes
    data = demo_mm_inputs(1, [[3, 192, 192]], num_items=[2],
                          num_classes=classes)
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    learning = [p for p in model.parameters() if p.requires_grad]
    assert torch.isfinite(loss)
    assert all(p.grad is not None for p in learning)


def test_data_sets_are_lazy_buildable_and_of_the_right_classes(cfg):
    classes = cfg.model.roi_head.bbox_head.num_classes
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        sets = loader.dataset.get('datasets', [loader.dataset])
        for one in sets:
            one.lazy_init = True
            dataset = DATASETS.build(one)
            assert len(dataset.metainfo['classes']) == classes


def test_the_schedule_ends_where_training_does(cfg):
    for scheduler in cfg.param_scheduler:
        assert PARAM_SCHEDULERS.get(scheduler.type) is not None
    assert max(s.end for s in cfg.param_scheduler) == cfg.train_cfg.max_iters


@pytest.mark.parametrize('path', PAPER, ids=lambda path: path.stem)
def test_the_papers_choices(path):
    cfg = Config.fromfile(path)
    backbone, head = cfg.model.backbone, cfg.model.roi_head.bbox_head
    assert backbone.dilations[-1] == 2 and backbone.strides[-1] == 1
    assert backbone.frozen_stages == 1 and backbone.norm_eval
    assert head.output_size == 7 and head.reg_class_agnostic
    assert cfg.model.roi_head.bbox_roi_extractor.mode == 'pool'
    sampler = cfg.model.train_cfg.rcnn.sampler
    background = cfg.model.train_cfg.rcnn.assigner.neg_iou_thr
    assert sampler.num == 128
    if 'ohem' in path.stem:
        assert sampler == dict(type='mmgwap.RFCNOHEMSampler', num=128)
        assert background == 0.5
    else:
        assert sampler.pos_fraction == 0.25 and background == (0.1, 0.5)
    scales = cfg.model.rpn_head.anchor_generator.scales
    rate, = cfg.param_scheduler
    if 'voc' in path.stem:
        assert scales == [8, 16, 32] and head.num_classes == 20
        assert (rate.milestones, cfg.train_cfg.max_iters) == ([80000], 110000)
    else:
        assert scales == [4, 8, 16, 32] and head.num_classes == 80
        assert (rate.milestones, cfg.train_cfg.max_iters) == ([90000], 120000)
