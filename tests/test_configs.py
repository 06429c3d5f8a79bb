"""Configs of detectors: what they share, and where they differ.

That they train is asked in test_every_config.py.
"""

import re
from pathlib import Path

import pytest
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

register_all_modules()
FOLDER = Path(__file__).resolve().parents[1] / 'configs'
# Those of classifiers are looked at in test_wsol_configs.py.
CONFIGS = sorted(
    path
    for path in FOLDER.glob('[!_]*/*.py')
    if path.parent.name != 'wsol' and 'imagenet' not in path.stem
)
PAPER = [
    path
    for path in CONFIGS
    if path.parent.name == 'rfcn' and ('voc' in path.stem or 'coco' in path.stem)
]
GWAP = [path for path in CONFIGS if path.parent.name == 'gwap']
LIP = [path for path in CONFIGS if path.parent.name == 'lip']


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def cfg(request):
    return Config.fromfile(request.param)


def detector_of(cfg):
    """Config of the detector, whether or not a head is added to it."""
    return cfg.model.get('detector', cfg.model)


def num_classes_of(cfg):
    detector = detector_of(cfg)
    head = detector.roi_head if 'roi_head' in detector else detector
    return head.bbox_head.num_classes


def test_there_are_configs():
    names = {path.stem for path in CONFIGS}
    for depth in (50, 101):
        for ohem in ('', '_ohem'):
            assert f'rfcn_r{depth}{ohem}_1xb2-110k_voc0712' in names
            assert f'rfcn_r{depth}{ohem}_8xb1-120k_coco' in names
    for percent in (1, 5, 10, 20, 50):
        assert f'rfcn_r50_gwap_1xb4-110k_voc0712-p{percent:02}' in names
        assert f'rfcn_r50_1xb2-110k_voc0712-p{percent:02}-boxes-only' in names
    for percent in (1, 5, 10, 30):
        assert f'rfcn_r50_gwap_8xb2-120k_coco-p{percent:02}' in names
        assert f'rfcn_r50_8xb1-120k_coco-p{percent:02}-boxes-only' in names
    for other in ('faster-rcnn', 'retinanet', 'rtmdet', 'detr'):
        assert [name for name in names if name.startswith(other)]
    for lip in (
        'r50_fpn_1x',
        'r50_fpn_2x',
        'r101_fpn_1x',
        'r101_fpn_2x',
        'r101-md_fpn_1x',
        'r101-md_fpn_2x',
        'd121_fpn_1x',
    ):
        assert f'faster-rcnn_lip-{lip}_coco' in names
    assert 'rfcn_r18_digits' in names and 'rfcn_lip-r18_digits' in names


def leaves_of(dataset):
    """Configs of the data sets inside of all wrappers."""
    if 'datasets' in dataset:
        return sum(map(leaves_of, dataset.datasets), [])
    return leaves_of(dataset.dataset) if 'dataset' in dataset else [dataset]


def test_data_sets_are_lazy_buildable_and_of_the_right_classes(cfg):
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        for one in leaves_of(loader.dataset):
            one.lazy_init = True
            dataset = DATASETS.build(one)
            assert len(dataset.metainfo['classes']) == num_classes_of(cfg)


def test_the_schedule_ends_where_training_does(cfg):
    for scheduler in cfg.param_scheduler:
        assert PARAM_SCHEDULERS.get(scheduler.type) is not None
    end = cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs
    assert cfg.param_scheduler[-1].end == end


@pytest.mark.parametrize('path', GWAP, ids=lambda path: path.stem)
def test_shares_of_boxes(path):
    """Each config with labels has the choice and batches of its twin."""
    cfg = Config.fromfile(path)
    percent = re.search(r'-p(\d+)', path.stem)
    dataset = cfg.train_dataloader.dataset
    if percent:
        assert dataset.type == 'mmgwap.PartialBoxDataset'
        assert dataset.percent == int(percent[1])
        assert dataset.get('seed', 0) == 0
    assert dataset.get('boxes_only', False) == (
        percent is not None and path.stem.endswith('boxes-only')
    )
    if 'gwap' not in path.stem and 'gap' not in path.stem:
        assert 'cls_head' not in cfg.model
        return
    assert cfg.model.cls_head.num_classes == num_classes_of(cfg)
    sampler = cfg.train_dataloader.batch_sampler
    assert sampler.type == 'mmgwap.PartialBoxBatchSampler'
    assert 0 < sampler.boxed < cfg.train_dataloader.batch_size
    assert {one.type for one in cfg.val_evaluator} >= {'mmgwap.MultiLabelMetric'}


@pytest.mark.parametrize(
    'path', [path for path in GWAP if path.stem.endswith('boxes-only')], ids=lambda path: path.stem
)
def test_twins(path):
    """Boxes only and boxes + labels: the same detector, schedule, boxes."""
    twin = {
        'rfcn_r50_1xb2-110k_voc07-boxes-only': 'rfcn_r50_gwap_1xb4-110k_voc07-boxes_voc12-labels'
    }.get(
        path.stem,
        path.stem.replace('-boxes-only', '')
        .replace('r50_1xb2', 'r50_gwap_1xb4')
        .replace('r50_8xb1', 'r50_gwap_8xb2')
        .replace('r18_', 'r18_gwap_'),
    )
    one, two = (Config.fromfile(path.with_name(f'{stem}.py')) for stem in (path.stem, twin))
    assert one.model == two.model.detector
    # The branch may learn at a rate of its own.
    two.optim_wrapper.get('paramwise_cfg', dict(custom_keys={}))['custom_keys'].pop(
        'cls_head', None
    )
    two.optim_wrapper = {
        key: value for key, value in two.optim_wrapper.items() if value != dict(custom_keys={})
    }
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'val_dataloader'):
        assert one[key] == two[key]
    assert one.train_dataloader.batch_size == two.train_dataloader.batch_sampler.boxed


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
    (rate,) = cfg.param_scheduler
    if 'voc' in path.stem:
        assert scales == [8, 16, 32] and head.num_classes == 20
        assert (rate.milestones, cfg.train_cfg.max_iters) == ([80000], 110000)
    else:
        assert scales == [4, 8, 16, 32] and head.num_classes == 80
        assert (rate.milestones, cfg.train_cfg.max_iters) == ([90000], 120000)


@pytest.mark.parametrize('path', LIP, ids=lambda path: path.stem)
def test_lip_changes_the_backbone_alone(path):
    """Each config of LIP is its twin of a plain ResNet, but for the backbone
    and what a neck has to know of it."""
    depth = re.search(r'lip-[rd](\d+)', path.stem)[1]
    backbone = detector_of(Config.fromfile(path)).backbone
    assert backbone.type == ('mmgwap.LIPDenseNet' if '-d1' in path.stem else 'mmgwap.LIPResNet')
    assert backbone.depth == int(depth)
    if 'digits' not in path.stem:
        net = 'densenet' if '-d1' in path.stem else 'resnet'
        assert backbone.init_cfg == dict(
            type='Pretrained', checkpoint=f'checkpoints/lip_{net}-{depth}.pth'
        )
    assert ('dcn' in backbone) == ('-md' in path.stem)


def test_lip_twins():
    for name, twin in (
        ('rfcn_lip-r18_digits', 'rfcn/rfcn_r18_digits'),
        ('rfcn_lip-r101_8xb1-120k_coco', 'rfcn/rfcn_r101_8xb1-120k_coco'),
        ('rfcn_lip-r50_gwap_8xb2-120k_coco-p10', 'gwap/rfcn_r50_gwap_8xb2-120k_coco-p10'),
    ):
        one = Config.fromfile(FOLDER / f'lip/{name}.py').to_dict()
        two = Config.fromfile(FOLDER / f'{twin}.py').to_dict()
        for cfg in (one, two):
            model = cfg['model'].get('detector', cfg['model'])
            model['backbone'].pop('init_cfg')
            model['backbone'].pop('type')
        assert one == two


def test_rates_are_scaled_from_the_batch_of_the_name(cfg):
    """``--auto-scale-lr`` on as many GPUs as the name says changes nothing."""
    per_gpu = cfg.train_dataloader.batch_size
    named = re.search(r'_(\d+)xb(\d+)-', str(cfg.filename))
    if named:
        assert per_gpu == int(named[2])
        gpus = int(named[1])
    else:
        # mmdet's names leave out 8xb2, ours of small data one process.
        gpus = 8 if '_fpn_' in str(cfg.filename) else 1
    assert cfg.auto_scale_lr.base_batch_size == gpus * per_gpu


def test_runs_survive(cfg):
    assert cfg.default_hooks.checkpoint.type == 'mmgwap.AtomicCheckpointHook'
    assert {hook.type for hook in cfg.custom_hooks} >= {
        'NumClassCheckHook',
        'mmgwap.ExactResumeHook',
        'mmgwap.StopAtInvalidLossHook',
        'mmgwap.BadImagesHook',
    }
