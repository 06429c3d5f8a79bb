"""Train a step and validate an image with every config, on toy data in the real layouts."""

import gc
import math
import re
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
from tests import toy_data
from tests.processes import Command
from tools.run_mmdet_tool import find_tool

FOLDER = Path(__file__).resolve().parents[1] / 'configs'
# The configs of own_data are templates; test_own_data.py fills them in.
CONFIGS = sorted(path for path in FOLDER.glob('[!_]*/*.py') if path.parent.name != 'own_data')
FAST = (
    'gwap/rfcn_r18_gwap_digits-p10',
    'gwap/rfcn_r50_gwap_1xb4-110k_voc0712-p10',
    'gwap/rtmdet_tiny_gwap_8xb64-300e_coco-p10',
    'lip/rfcn_lip-r18_digits',
    'photographs/rfcn_efficientnet-lite0_teacher_highway-p05',
    'teacher/rfcn_r18_gwap-teacher_digits-p10',
    'wsol/r50_gap_openimages30k',
)
WEIGHTS = ('torchvision://', 'https://', 'checkpoints/lip_', 'package://')
SHORT = 150  # maximum short side in px; R-FCN on VOC has anchors from 128 px


@pytest.fixture(scope='module')
def data(tool, tmp_path_factory):
    """Folder ``data/`` with a toy version of every data set."""
    data = tmp_path_factory.mktemp('toy') / 'data'
    for name in ('coco', 'photographs', 'voc', 'cards', 'ilsvrc', 'cub', 'openimages'):
        getattr(toy_data, f'write_{name}')(data)
    make = 'tools/dataset_converters/make_wsol_metadata.py'
    tool(make, 'ilsvrc', data, data / 'ILSVRC/metadata')
    tool(make, 'cub', data / 'CUB_200_2011', data / 'CUB_200_2011/metadata')
    tool(make, 'coco', data / 'highway', data / 'highway-single')
    make = 'tools/dataset_converters/make_digits.py'
    tool(make, '--out', data / 'digits', '--train', 100, '--val', 8)
    tool(make, '--single', '--out', data / 'digits-single', '--train', 40, '--val', 8)
    return data


@LOOPS.register_module()
class OneStepEpochs(EpochBasedTrainLoop):
    """Epochs of one batch."""

    def run_epoch(self) -> None:
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        self.run_iter(0, next(iter(self.dataloader)))
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


def shorten(cfg, work_dir):
    """Reduce a config to one step of at most four small images and one validation image."""
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[key].update(num_workers=0, persistent_workers=False)
    for key in ('val_dataloader', 'test_dataloader'):
        cfg[key].batch_size = 1
        cfg[key].dataset.indices = 1
    loader = cfg.train_dataloader
    if loader.batch_size > 4:
        sampler = loader.get('batch_sampler') or {}
        if 'num_boxed' in sampler:
            sampler.num_boxed = max(1, sampler.num_boxed * 4 // loader.batch_size)
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
            node.depth = 50  # the same kinds of layers in less time
        # All scores of an untrained model are low.
        if 'score_thr' in node:
            node.score_thr = -1.0
    if is_teacher(cfg):
        cfg.model.update(burn_in=0, thresholds=(0.0, 0.0))
    shrink_images(cfg)


def is_teacher(cfg):
    return cfg.model.type == 'mmgwap.LabelGuidedTeacher'


def network_of(cfg):
    """Return the config of the model that predicts: that of the teacher, or the whole model."""
    return cfg.model.detector if is_teacher(cfg) else cfg.model


def nodes(value):
    """Yield all dicts inside a config."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, (dict, list, tuple)):
        for child in value.values() if isinstance(value, dict) else value:
            yield from nodes(child)


def shrink_images(cfg):
    """Divide the sizes in all pipelines by the same whole number."""
    parts = [cfg[key] for key in cfg if key.endswith('_dataloader') or key == 'custom_hooks']
    sizes = [
        (node, key)
        for node in nodes(parts)
        for key in ('scale', 'scales', 'img_scale', 'crop_size', 'size')
        if 'type' in node and key in node and any(numbers(node[key]))
    ]
    short = max(min(numbers(node[key])) for node, key in sizes if node.type == 'Resize')
    for node, key in sizes:
        node[key] = divided(node[key], math.ceil(short / SHORT))


def numbers(value):
    """List the whole numbers in nested sequences."""
    if isinstance(value, (list, tuple)):
        return [number for child in value for number in numbers(child)]
    return [value] if isinstance(value, int) else []


def divided(value, divisor):
    """Divide the whole numbers in nested sequences."""
    if isinstance(value, (list, tuple)):
        return type(value)(divided(child, divisor) for child in value)
    return value // divisor if isinstance(value, int) else value


class FitStatistics(Hook):
    """Set the statistics of frozen batch norms to those of the batch.

    A DenseNet with random weights overflows with the initial statistics.
    """

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        norms = [
            module
            for module in runner.model.modules()
            if isinstance(module, _BatchNorm) and not module.training
        ]
        for norm in norms:
            norm.train().momentum = 1.0
        with torch.no_grad():
            data = runner.model.data_preprocessor(data_batch, True)
            runner.model.extract_feat(data['inputs'])
        for norm in norms:
            norm.eval()


class Record(Hook):
    """Record the step and the validation of a run.

    Attributes:
        losses (dict): loss values of the step.
        learning, reached, changed (set): names of the parameters that require a gradient,
            got a gradient, and differ after the step.
        predictions (list): predictions on the validation image.
        metrics (dict): metrics on the validation image.
    """

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
        self.losses = {key: value.item() for key, value in outputs.items()}
        self.steps = runner.iter + 1
        self.batch_size = len(data_batch['inputs'])
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


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
        for name in (f'{path.parent.name}/{path.stem}' for path in CONFIGS)
    ],
)
def test_step_and_validation(name, data, tmp_path, monkeypatch):
    monkeypatch.chdir(data.parent)
    register_all_modules()
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    shorten(cfg, tmp_path)
    runner = Runner.from_cfg(cfg)
    record = Record()
    runner.register_hook(record)
    if 'lip-d121' in name:
        runner.register_hook(FitStatistics())
    runner.train()
    check_step(cfg, record)
    if is_teacher(cfg):
        check_teacher(name, cfg, record)
    num_classes = len(runner.train_dataloader.dataset.metainfo['classes'])
    (sample,) = record.predictions
    check_boxes(sample, num_classes)
    # All boxes of an untrained RTMDet can be empty, and it drops empty boxes.
    has_boxes = len(sample.pred_instances) > 0
    assert has_boxes or 'rtmdet' in name
    if 'cls_head' in network_of(cfg):
        check_image_level(network_of(cfg), sample, num_classes)
    check_metrics(name, cfg, record.metrics, has_boxes)
    if cfg.test_dataloader != cfg.val_dataloader:
        assert set(runner.test()) == set(record.metrics)
    del runner, record, sample
    gc.collect()  # a runner and its model are in reference cycles


def check_step(cfg, record):
    assert record.steps == 1
    assert record.batch_size == cfg.train_dataloader.batch_size
    assert math.isfinite(record.losses['loss'])
    assert ('loss_image' in record.losses) == ('cls_head' in network_of(cfg))
    # Distributed training hangs if a parameter gets no gradient.
    assert record.reached == record.learning
    changed = {name for name in record.changed if not name.startswith('teacher.')}
    assert changed <= record.learning
    assert parts_of(changed) == parts_of(record.learning)


def parts_of(names):
    """Return the top modules of parameters, those of the student if there is one."""
    return {name.removeprefix('student.').split('.')[0] for name in names}


def check_teacher(name, cfg, record):
    """The student learned from pseudo boxes if they count, and the teacher follows the student."""
    assert all(name.startswith('student.') for name in record.learning)
    pseudo = {key for key in record.losses if key.startswith('pseudo_')}
    counts = cfg.model.get('pseudo_weight', 1) > 0
    # All boxes of an untrained RTMDet can be empty.
    assert bool(pseudo - {'pseudo_loss'}) == counts or 'rtmdet' in name
    followed = {name for name in record.changed if name.startswith('teacher.')}
    assert followed
    assert {name.replace('teacher', 'student', 1) for name in followed} <= record.changed


def check_boxes(sample, num_classes):
    instances = sample.pred_instances
    boxes, scores, labels = instances.bboxes, instances.scores, instances.labels
    height, width = sample.ori_shape
    assert ((boxes >= -1e-3) & (boxes <= boxes.new_tensor([width, height] * 2) + 1e-3)).all()
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert ((labels >= 0) & (labels < num_classes)).all()


def check_image_level(network, sample, num_classes):
    scores = sample.pred_image_scores
    assert scores.shape == (num_classes,)
    assert ((scores >= 0) & (scores <= 1)).all()
    if not network.cls_head.get('multi_label', True):
        assert scores.sum().item() == pytest.approx(1, abs=1e-4)
    if network.get('test_cfg', {}).get('with_maps'):
        maps = maps_to_image(sample, sample.pred_image_maps[:2])
        assert maps.shape == (2, *sample.ori_shape)
        assert torch.isfinite(maps).all()


def check_metrics(name, cfg, metrics, has_boxes):
    # Without a box, CocoMetric has no metrics.
    assert (metrics or not has_boxes) and all(map(math.isfinite, metrics.values()))
    if re.search('coco|photographs|digits(?!-single)', name):
        assert not has_boxes or metrics['coco/bbox_mAP'] >= 0
    elif re.search('voc|cards', name):
        assert 0 <= metrics['pascal_voc/mAP'] <= 1
    else:
        assert 0 <= metrics['wsol/top1_error'] <= 100
        assert ('wsol/px_ap' in metrics) == bool(re.search('digits|openimages', name))
        assert ('wsol/gt_known' in metrics) == ('openimages' not in name)
    assert ('image/mAP' in metrics) == ('detector' in network_of(cfg))


TRAIN, VAL = 'train_dataloader.dataset', 'val_dataloader.dataset'
OPTIONS = (
    'train_cfg.max_iters=1',
    'model.backbone.init_cfg=None',
    'model.test_cfg.rcnn.score_thr=-1',
    f'{TRAIN}.pipeline.2.scale=(250,150)',
    f'{VAL}.pipeline.1.scale=(250,150)',
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.interval=1000',
    'default_hooks.checkpoint.save_last=False',
)


@pytest.mark.slow
def test_mmdets_own_tool_trains(data, tmp_path):
    config = FOLDER / 'lip/rfcn_lip-r50_8xb1-120k_coco.py'
    args = [config, '--work-dir', tmp_path, '--cfg-options', *OPTIONS]
    done = Command(data.parent, find_tool('train.py'), args, {}).wait()
    assert done.returncode == 0, done.stderr[-3000:]
    (log,) = tmp_path.glob('*/*.log')
    losses = re.findall(r' loss: (\S+)', log.read_text())
    assert losses and all(math.isfinite(float(loss)) for loss in losses)
    assert re.search(r'Iter\(val\) \[10/10\] .*coco/bbox_mAP: ', log.read_text())
