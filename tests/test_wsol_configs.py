"""Configs of image classifiers: parts and choices.

That they train is asked in test_every_config.py.
"""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmdet.engine.hooks import NumClassCheckHook
from mmdet.registry import DATASETS, MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

register_all_modules()
FOLDER = Path(__file__).resolve().parents[1] / 'configs'
CONFIGS = sorted(FOLDER.glob('wsol/*.py')) + sorted(FOLDER.glob('lip/*_imagenet.py'))
NETS = dict(
    alexnet='mmgwap.AlexNet',
    vgg16='mmgwap.VGG',
    googlenet='mmgwap.GoogLeNet',
    r50='ResNet',
    r18='ResNet',
)
POOLS = {
    'gap': 'GlobalAvgPool',
    'gmp': 'GlobalMaxPool',
    'lse': 'LogSumExpPool',
    'ca-gwap': 'ClassAgnosticGWAP',
    'cs-gwap': 'ClassSpecificGWAP',
}
CLASSES = dict(ilsvrc=1000, cub=200, openimages30k=100, imagenet=1000, **{'digits-single': 10})
# Each net once, and each pooling once.
DIFFERENT = [
    path
    for path in CONFIGS
    if re.search(
        r'_gap_(ilsvrc|openimages30k|digits-single)$|alexnet_.*cub|r18_|imagenet', path.stem
    )
]


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def named(request):
    return request.param.stem, Config.fromfile(request.param)


def test_there_are_configs():
    names = {path.stem for path in CONFIGS}
    for data in ('ilsvrc', 'cub'):
        for pool in ('gap', 'gmp', 'ca-gwap', 'cs-gwap'):
            for net in ('alexnet', 'vgg16', 'googlenet', 'r50'):
                assert f'{net}_{pool}_{data}' in names
        for net in ('r50-s16', 'r50-s8', 'lip-r50'):
            assert f'{net}_gap_{data}' in names
    assert {f'r18_{pool}_digits-single' for pool in POOLS} <= names


def test_parts_are_those_of_the_name(named):
    name, cfg = named
    if 'imagenet' in name:
        net, pool, data = name.split('_')[0], 'gap', 'imagenet'
    else:
        net, pool, data = name.split('_')
    model = cfg.model
    assert model.type == 'mmgwap.ImageClassifier'
    assert model.cls_head.num_classes == CLASSES[data]
    assert model.cls_head.pool.type == f'mmgwap.{POOLS[pool]}'
    assert not model.cls_head.multi_label and model.test_cfg.with_maps
    backbone = model.backbone
    if net.startswith('lip-'):
        assert backbone.type == 'mmgwap.LIPResNet'
        assert backbone.depth == int(net[5:])
    else:
        assert backbone.type == NETS[net.split('-')[0]]
    if not re.search('digits|imagenet', name):
        assert backbone.init_cfg.checkpoint.startswith(('torchvision://', 'checkpoints/lip_'))
    stride = {'r50-s16': 16, 'r50-s8': 8}.get(net)
    if stride:
        total = 4
        for one in backbone.strides:
            total *= one
        assert total == stride
        # A stage that keeps the resolution looks as far as if it didn't.
        rate = 1
        for one, dilation in zip(backbone.strides[1:], backbone.dilations[1:]):
            rate *= 2 // one
            assert dilation == rate
    papers = net in ('alexnet', 'vgg16', 'googlenet')
    assert (model.cls_head.get('num_convs', 0) == 1) == papers
    if papers:
        assert model.cls_head.feat_channels == 1024
        assert model.cls_head.norm_cfg is None


def test_data_and_measurement(named):
    name, cfg = named
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        dataset = loader.dataset
        assert dataset.type == 'mmgwap.WSOLDataset'
        dataset.lazy_init = True
        DATASETS.build(dataset)
    for loader, metric in (
        (cfg.val_dataloader, cfg.val_evaluator),
        (cfg.test_dataloader, cfg.test_evaluator),
    ):
        assert metric.type == 'mmgwap.WSOLMetric'
        assert metric.metadata_root == loader.dataset.data_root + loader.dataset.metadata_root
        assert not loader.sampler.shuffle and not loader.sampler.round_up
    assert ('mask_root' in cfg.val_evaluator) == ('digits' in name or 'openimages' in name)


def test_the_schedule_ends_where_training_does(named):
    _, cfg = named
    for scheduler in cfg.param_scheduler:
        assert PARAM_SCHEDULERS.get(scheduler.type) is not None
    end = cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs
    assert cfg.param_scheduler[-1].get('end', end) == end
    assert cfg.default_hooks.checkpoint.by_epoch == ('max_epochs' in cfg.train_cfg)


@pytest.mark.parametrize('path', DIFFERENT, ids=lambda path: path.stem)
def test_the_hook_that_counts_classes_agrees(path):
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    hook = NumClassCheckHook()
    for count, wrong in ((cfg.model.cls_head.num_classes, False), (7, True)):
        dataset = SimpleNamespace(metainfo=dict(classes=tuple(map(str, range(count)))))
        runner = SimpleNamespace(model=model, train_dataloader=SimpleNamespace(dataset=dataset))
        if wrong:
            with pytest.raises(AssertionError, match='ImageClsHead'):
                hook.before_train_epoch(runner)
        else:
            hook.before_train_epoch(runner)
