"""Every config trains a step and measures an image, as tools/train.py has it,
on miniatures of its data set in the true layout under data/."""

import gc
import math
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.nn.modules.batchnorm import _BatchNorm

from mmgwap.structures import maps_to_image
from tests.toy_data import (
    write_cards,
    write_coco,
    write_cub,
    write_ilsvrc,
    write_openimages,
    write_voc,
)
from tools.run_mmdet_tool import find_tool

FOLDER = Path(__file__).resolve().parents[1] / 'configs'
# Those in own_data are to be changed first, see test_own_data.py.
CONFIGS = sorted(path for path in FOLDER.glob('[!_]*/*.py') if path.parent.name != 'own_data')
WEIGHTS = ('torchvision://', 'https://', 'checkpoints/lip_')
SHORT = 150  # px of a short side at most; R-FCN on VOC has anchors from 128 px


def run_tool(name, *options):
    """Run a tool of ours in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [name, *map(str, options)])
        runpy.run_path(str(FOLDER.parent / 'tools' / name), run_name='__main__')


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    """Miniatures of all data sets; metadata and digits come by our tools."""
    data = tmp_path_factory.mktemp('miniatures') / 'data'
    for write in (write_coco, write_voc, write_cards, write_ilsvrc, write_cub, write_openimages):
        write(data)
    make = 'dataset_converters/make_wsol_metadata.py'
    run_tool(make, 'ilsvrc', data, data / 'ILSVRC/metadata')
    run_tool(make, 'cub', data / 'CUB_200_2011', data / 'CUB_200_2011/metadata')
    make = 'dataset_converters/make_digits.py'
    run_tool(make, '--out', data / 'digits', '--train', 100, '--val', 8)
    run_tool(make, '--single', '--out', data / 'digits-single', '--train', 40, '--val', 8)
    return data


@LOOPS.register_module()
class OneStepEpochs(EpochBasedTrainLoop):
    """Epochs that end after their first batch."""

    def run_epoch(self) -> None:
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        self.run_iter(0, next(iter(self.dataloader)))
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


def shorten(cfg, work_dir):
    """One step of at most four small images, and one image to measure."""
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[key].update(num_workers=0, persistent_workers=False)
    for key in ('val_dataloader', 'test_dataloader'):
        cfg[key].batch_size = 1
        cfg[key].dataset.indices = 1
    loader = cfg.train_dataloader
    if loader.batch_size > 4:
        sampler = loader.get('batch_sampler') or {}
        if 'boxed' in sampler:
            sampler.boxed = max(1, sampler.boxed * 4 // loader.batch_size)
        loader.batch_size = 4
    if 'max_epochs' in cfg.train_cfg:
        cfg.train_cfg.update(type='OneStepEpochs', max_epochs=1)
    else:
        cfg.train_cfg.max_iters = 1
    cfg.train_cfg.val_interval = 1
    cfg.default_hooks.checkpoint.update(interval=10**9, save_last=False)
    cfg.default_hooks.logger.interval = 1
    cfg.update(work_dir=str(work_dir), load_from=None, launcher='none', randomness=dict(seed=0))
    for node in nodes(cfg.model):
        if (node.get('init_cfg') or {}).get('type') == 'Pretrained':
            assert node.init_cfg.checkpoint.startswith(WEIGHTS)
            node.init_cfg = None
        if node.get('depth') == 101:
            node.depth = 50  # the same layers, fewer of them
        # An untrained model is sure of nothing.
        if 'score_thr' in node:
            node.score_thr = -1.0
    shrink(cfg)


def nodes(value):
    """All dicts inside of a config."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, (dict, list, tuple)):
        for child in value.values() if isinstance(value, dict) else value:
            yield from nodes(child)


def shrink(cfg):
    """Divide the sizes in all pipelines by the same whole number."""
    places = [
        (node, key)
        for node in nodes(
            [
                value
                for key, value in cfg.items()
                if key.endswith('_dataloader') or key == 'custom_hooks'
            ]
        )
        for key in ('scale', 'scales', 'img_scale', 'crop_size', 'size')
        if 'type' in node and key in node and any(numbers(node[key]))
    ]
    short = max(min(numbers(node[key])) for node, key in places if node.type == 'Resize')
    for node, key in places:
        node[key] = divided(node[key], math.ceil(short / SHORT))


def numbers(value):
    if isinstance(value, (list, tuple)):
        return [number for child in value for number in numbers(child)]
    return [value] if isinstance(value, int) else []


def divided(value, by):
    if isinstance(value, (list, tuple)):
        return type(value)(divided(child, by) for child in value)
    return value // by if isinstance(value, int) else value


class FitStatistics(Hook):
    """Gives frozen batch norm the statistics of the images, as pretrained
    weights do; a DenseNet of random weights overflows without."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        norms = [
            one
            for one in runner.model.modules()
            if isinstance(one, _BatchNorm) and not one.training
        ]
        for one in norms:
            one.train().momentum = 1.0
        with torch.no_grad():
            data = runner.model.data_preprocessor(data_batch, True)
            runner.model.extract_feat(data['inputs'])
        for one in norms:
            one.eval()


class Watch(Hook):
    """Keeps what a run tells on its way."""

    def before_train(self, runner):
        self.reached = set()
        self.before = {}
        for name, value in runner.model.named_parameters():
            self.before[name] = value.detach().clone()
            if value.requires_grad:
                value.register_post_accumulate_grad_hook(
                    lambda _, name=name: self.reached.add(name)
                )

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        # As numbers: a graph would keep the model, by its hooks.
        self.losses = {key: float(value) for key, value in outputs.items()}
        self.steps = runner.iter + 1
        self.batch = len(data_batch['inputs'])
        parameters = dict(runner.model.named_parameters())
        self.changed = {
            name for name, value in self.before.items() if not torch.equal(value, parameters[name])
        }
        self.learning = {name for name, value in parameters.items() if value.requires_grad}
        del self.before

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.predictions = outputs

    def after_val_epoch(self, runner, metrics=None):
        self.metrics = metrics


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_a_step_and_an_image(path, data, tmp_path, monkeypatch):
    monkeypatch.chdir(data.parent)
    register_all_modules()
    cfg = Config.fromfile(path)
    shorten(cfg, tmp_path)
    runner = Runner.from_cfg(cfg)
    watch = Watch()
    runner.register_hook(watch)
    if 'lip-d121' in path.stem:
        runner.register_hook(FitStatistics())
    runner.train()
    check_step(cfg, watch)
    num_classes = len(runner.train_dataloader.dataset.metainfo['classes'])
    (sample,) = watch.predictions
    check_boxes(sample, num_classes)
    # Untrained, RTMDet may have boxes of no size alone, which it drops.
    has_boxes = len(sample.pred_instances) > 0
    assert has_boxes or 'rtmdet' in path.stem
    if 'cls_head' in cfg.model:
        check_image_level(cfg, sample, num_classes)
    check_metrics(path.stem, cfg, watch.metrics, has_boxes)
    if cfg.test_dataloader != cfg.val_dataloader:
        assert set(runner.test()) == set(watch.metrics)
    del runner, watch, sample
    gc.collect()  # a run holds itself by cycles, and a model in them


def check_step(cfg, watch):
    assert watch.steps == 1
    assert watch.batch == cfg.train_dataloader.batch_size
    assert math.isfinite(watch.losses['loss'])
    assert ('loss_image' in watch.losses) == ('cls_head' in cfg.model)
    # Each takes part, or distributed training would wait for it.
    assert watch.reached == watch.learning
    assert watch.changed <= watch.learning
    parts = {name.split('.')[0] for name in watch.learning}
    assert {name.split('.')[0] for name in watch.changed} == parts


def check_boxes(sample, num_classes):
    found = sample.pred_instances
    boxes = found.bboxes
    height, width = sample.ori_shape
    assert len(boxes) == len(found.labels) == len(found.scores)
    assert torch.isfinite(boxes).all()
    assert (boxes >= -1e-3).all()
    assert (boxes[:, 0::2] <= width + 1e-3).all()
    assert (boxes[:, 1::2] <= height + 1e-3).all()
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert ((found.labels >= 0) & (found.labels < num_classes)).all()


def check_image_level(cfg, sample, num_classes):
    scores = sample.pred_image_scores
    assert scores.shape == (num_classes,)
    assert ((scores >= 0) & (scores <= 1)).all()
    if not cfg.model.cls_head.get('multi_label', True):
        assert scores.sum().item() == pytest.approx(1, abs=1e-4)
    if cfg.model.get('test_cfg', {}).get('with_maps'):
        maps = maps_to_image(sample, sample.pred_image_maps[:2])
        assert maps.shape == (2, *sample.ori_shape)
        assert torch.isfinite(maps).all()


def check_metrics(name, cfg, metrics, has_boxes):
    assert metrics and all(map(math.isfinite, metrics.values()))
    prefixes = {key.split('/')[0] for key in metrics}
    if re.search('coco|digits(?!-single)', name):
        assert not has_boxes or metrics['coco/bbox_mAP'] >= 0
    elif re.search('voc|cards', name):
        assert 0 <= metrics['pascal_voc/mAP'] <= 1
    else:
        assert 0 <= metrics['wsol/top1_error'] <= 100
        assert ('wsol/px_ap' in metrics) == bool(re.search('digits|openimages', name))
        assert ('wsol/gt_known' in metrics) == ('openimages' not in name)
    assert ('image' in prefixes) == ('detector' in cfg.model)


def run(script, path, work_dir, cwd, *options):
    """A training in a process of its own; returns its log."""
    done = subprocess.run(
        [
            sys.executable,
            '-W',
            'ignore',
            script,
            path,
            '--work-dir',
            work_dir,
            '--cfg-options',
            *options,
            'default_hooks.logger.interval=1',
            'default_hooks.checkpoint.interval=1000',
            'default_hooks.checkpoint.save_last=False',
        ],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (log,) = work_dir.glob('*/*.log')
    return log.read_text()


def sizes(scale, *datasets):
    """Options that set the size of the images in these data sets."""
    return [f'{name}.pipeline.{place}.scale=({scale[0]},{scale[1]})' for name, place in datasets]


TRAIN, VAL = 'train_dataloader.dataset', 'val_dataloader.dataset'


@pytest.mark.parametrize(
    'script, path, options, metric',
    [
        (
            'ours',
            'gwap/rfcn_r50_gwap_1xb4-110k_voc0712-p10',
            [
                'train_cfg.max_iters=1',
                'model.detector.backbone.init_cfg=None',
                *sizes(
                    (250, 150),
                    (f'{TRAIN}.dataset.datasets.0', 2),
                    (f'{TRAIN}.dataset.datasets.1', 2),
                    (VAL, 1),
                ),
            ],
            r'Iter\(val\) \[10/10\] .*pascal_voc/mAP: .*image/mAP: ',
        ),
        (
            'ours',
            'wsol/alexnet_gap_cub',
            [
                'train_cfg.max_epochs=1',
                'train_cfg.val_interval=1',
                'model.backbone.init_cfg=None',
                'train_dataloader.batch_size=100',
                *sizes((80, 80), (TRAIN, 1), (VAL, 1)),
                f'{TRAIN}.pipeline.2.crop_size=(64,64)',
            ],
            r'\(val\) \[.*wsol/max_box_acc_v2: ',
        ),
        (
            "mmdet's",
            'lip/rfcn_lip-r50_8xb1-120k_coco',
            [
                'train_cfg.max_iters=1',
                'model.backbone.init_cfg=None',
                # An untrained model is sure of nothing.
                'model.test_cfg.rcnn.score_thr=-1',
                *sizes((250, 150), (TRAIN, 2), (VAL, 1)),
            ],
            r'Iter\(val\) \[10/10\] .*coco/bbox_mAP: ',
        ),
    ],
    ids=['voc', 'cub', 'coco'],
)
def test_the_command_line(script, path, options, metric, data, tmp_path):
    script = find_tool('train.py') if script == "mmdet's" else FOLDER.parent / 'tools' / 'train.py'
    log = run(script, FOLDER / f'{path}.py', tmp_path, data.parent, *options)
    losses = re.findall(r' loss: (\S+)', log)
    assert losses and all(math.isfinite(float(loss)) for loss in losses)
    assert re.search(metric, log)
