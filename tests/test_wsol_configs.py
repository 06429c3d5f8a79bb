"""Choices of the classifier configs. test_every_config.py trains them."""

import math
import re
from argparse import ArgumentParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmdet.engine.hooks import NumClassCheckHook
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config, DictAction

register_all_modules()
FOLDER = Path(__file__).resolve().parents[1] / 'configs'
CONFIGS = sorted(FOLDER.glob('wsol/*.py')) + sorted(FOLDER.glob('lip/*_imagenet.py'))
NETS = dict(r50='ResNet', r18='ResNet', lip='mmgwap.LIPResNet')
NETS.update(alexnet='mmgwap.AlexNet', vgg16='mmgwap.VGG', googlenet='mmgwap.GoogLeNet')
NETS.update(efficientnet='mmgwap.EfficientNetLite')
POOLS = {
    'gap': 'GlobalAvgPool',
    'gmp': 'GlobalMaxPool',
    'lse': 'LogSumExpPool',
    'ca-gwap': 'ClassAgnosticGWAP',
    'cs-gwap': 'ClassSpecificGWAP',
}
CLASSES = dict(ilsvrc=1000, cub=200, openimages30k=100, imagenet=1000, **{'digits-single': 10})
CLASSES['highway-single'] = 5


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def named(request):
    """Name and content of a config."""
    return request.param.stem, Config.fromfile(request.param)


def test_each_net_and_each_pooling_has_a_config():
    names = {path.stem for path in CONFIGS}
    nets = ('alexnet', 'vgg16', 'googlenet', 'r50', 'r50-s16', 'r50-s8', 'lip-r50')
    nets += ('efficientnet-lite0',)
    assert {f'{net}_gap_ilsvrc' for net in nets} <= names
    assert {f'r18_{pool}_digits-single' for pool in POOLS} <= names
    assert {f'efficientnet-lite0_{pool}_highway-single' for pool in POOLS} <= names


def test_model_has_the_parts_in_the_name(named):
    name, cfg = named
    net, *pool, data = name.split('_')
    if data == 'imagenet':
        pool = ['gap']
    model, backbone, head = cfg.model, cfg.model.backbone, cfg.model.cls_head
    assert model.type == 'mmgwap.ImageClassifier' and model.test_cfg.with_maps
    assert head.num_classes == CLASSES[data] and not head.multi_label
    assert head.pool.type == f'mmgwap.{POOLS[pool[0]]}'
    assert backbone.type == NETS[net.split('-')[0]]
    if net.startswith('lip-'):
        assert backbone.depth == int(net[5:])
    if data not in ('digits-single', 'imagenet'):
        # EfficientNet-Lite0 has its own classifier.
        weights = model.init_cfg if 'lite0_gap_ilsvrc' in name else backbone.init_cfg
        assert weights.type == 'Pretrained'
        sources = ('torchvision://', 'checkpoints/lip_', 'package://')
        assert weights.checkpoint.startswith(sources)
    from_cam_paper = net in ('alexnet', 'vgg16', 'googlenet')
    assert (head.get('num_convs', 0) == 1) == from_cam_paper
    if from_cam_paper:
        assert head.feat_channels == 1024 and head.norm_cfg is None


@pytest.mark.parametrize('stride', [8, 16])
def test_dilation_replaces_stride(stride):
    backbone = Config.fromfile(FOLDER / f'wsol/r50-s{stride}_gap_ilsvrc.py').model.backbone
    assert 4 * math.prod(backbone.strides) == stride
    dilation = 1
    for step, rate in zip(backbone.strides[1:], backbone.dilations[1:]):
        dilation *= 2 // step
        assert rate == dilation


def test_data_and_metric_agree(named):
    name, cfg = named
    assert cfg.train_dataloader.dataset.type == 'mmgwap.WSOLDataset'
    for split in ('val', 'test'):
        loader, metric = cfg[f'{split}_dataloader'], cfg[f'{split}_evaluator']
        assert loader.dataset.type == 'mmgwap.WSOLDataset'
        assert metric.type == 'mmgwap.WSOLMetric'
        assert metric.metadata_root == loader.dataset.data_root + loader.dataset.metadata_root
        assert not loader.sampler.shuffle and not loader.sampler.round_up
    assert ('mask_root' in cfg.val_evaluator) == ('digits' in name or 'openimages' in name)


def test_schedule_ends_with_training(named):
    _, cfg = named
    end = cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs
    assert cfg.param_scheduler[-1].get('end', end) == end
    assert cfg.default_hooks.checkpoint.by_epoch == ('max_epochs' in cfg.train_cfg)


@pytest.mark.parametrize('pool', [*POOLS.values(), 'LogSumExpPool r=2.5'])
def test_pooling_is_an_option(pool):
    """``--cfg-options model.cls_head.pool.type=...`` replaces the pooling of any config."""
    kind, *arguments = pool.split()
    parser = ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    options = [f'model.cls_head.pool.{option}' for option in (f'type=mmgwap.{kind}', *arguments)]
    cfg = Config.fromfile(FOLDER / 'wsol/alexnet_gap_ilsvrc.py')
    cfg.merge_from_dict(parser.parse_args(['--cfg-options', *options]).cfg_options)
    cfg.model.backbone.init_cfg = None
    head = MODELS.build(cfg.model).cls_head
    assert type(head.pool).__name__ == kind
    if arguments:
        assert head.pool.r == 2.5


@pytest.mark.parametrize('net, data', [('alexnet', 'cub_200_2011'), ('vgg16', 'openimages30k')])
def test_readme_example_combines_nets_and_data(net, data, tmp_path):
    readme = (FOLDER / 'wsol/README.md').read_text()
    (text,) = re.findall(r'```python\n(_base_.*?)```', readme, re.DOTALL)
    text = re.sub(r'cam_\w+', f'cam_{net}', text)
    text = re.sub('cub_200_2011', data, text).replace("'../", f"'{FOLDER}/")
    path = tmp_path / 'config.py'
    path.write_text(text)
    cfg = Config.fromfile(path)
    assert cfg.model.backbone.type == NETS[net] and cfg.model.cls_head.num_classes == 200
    assert cfg.train_dataloader.dataset.type == 'mmgwap.WSOLDataset'
    assert cfg.train_cfg.max_epochs == 50


def test_mmdets_hook_checks_the_number_of_classes():
    cfg = Config.fromfile(FOLDER / 'wsol/r18_gap_digits-single.py')
    model, hook = MODELS.build(cfg.model), NumClassCheckHook()

    def runner(num_classes):
        dataset = SimpleNamespace(metainfo=dict(classes=tuple(map(str, range(num_classes)))))
        return SimpleNamespace(model=model, train_dataloader=SimpleNamespace(dataset=dataset))

    hook.before_train_epoch(runner(10))
    with pytest.raises(AssertionError, match='ImageClsHead'):
        hook.before_train_epoch(runner(7))
