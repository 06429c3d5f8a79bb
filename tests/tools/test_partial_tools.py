"""Tests of the tools on a training with partial boxes: split, report, export."""

import json
import re

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config

from mmgwap.datasets.partial_split import read_split
from tests.toy_data import tiny_rfcn

register_all_modules()
SPLIT = 'tools/dataset_converters/make_partial_split.py'
EXPORT = 'tools/model_converters/export_detector.py'


@pytest.fixture(scope='module')
def partial_config(config, tmp_path_factory):
    """Write the tiny config with labels instead of boxes on half of the images."""
    cfg = Config.fromfile(config)
    head = dict(type='mmgwap.ImageClsHead', num_classes=10, in_channels=64)
    cfg.model = dict(type='mmgwap.MultiTaskDetector', detector=cfg.model, cls_head=head)
    cfg.train_dataloader.batch_sampler = dict(type='mmgwap.PartialBoxBatchSampler', num_boxed=2)
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='mmgwap.PartialBoxDataset', percent=50, dataset=dataset
    )
    cfg.val_evaluator = [cfg.val_evaluator, dict(type='mmgwap.MultiLabelMetric')]
    path = tmp_path_factory.mktemp('partial') / 'partial.py'
    cfg.dump(path)
    return path


@pytest.fixture(scope='module')
def partial_run(tool, partial_config, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('partial_run')
    tool('tools/train.py', partial_config, '--work-dir', work_dir)
    return work_dir


def test_train_and_evaluate_with_partial_boxes(partial_run):
    (path,) = partial_run.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert all('loss_image' in row for row in rows if 'loss' in row)
    last = rows[-1]
    assert 'coco/bbox_mAP' in last and 0 <= last['image/mAP'] <= 1
    (log,) = partial_run.glob('*/*.log')
    text = log.read_text()
    assert '8 of 16 images keep their boxes' in text
    assert '8 images with boxes, 2 in a batch of 4' in text


def test_write_and_use_a_split(tool, config, partial_config, tmp_path):
    for name, source in (('a.txt', config), ('b.txt', partial_config)):
        done = tool(SPLIT, source, tmp_path / name, '--percent', '60', '--seed', '3')
        assert '10 of 16 images' in done.stdout
    ids, same = (read_split(tmp_path / name) for name in ('a.txt', 'b.txt'))
    assert ids == same and len(set(ids)) == 10
    assert '60 % of 16 images of tiny.py, seed 3' in (tmp_path / 'a.txt').read_text()
    cfg = Config.fromfile(partial_config).train_dataloader.dataset
    cfg.pop('percent')
    dataset = DATASETS.build(dict(cfg, split_file=str(tmp_path / 'a.txt')))
    kept = [str(dataset.get_data_info(i)['img_id']) for i in range(16) if dataset.boxed[i]]
    assert kept == ids


def test_report_too_small_a_share_in_one_line(tool, config, tmp_path):
    done = tool(SPLIT, config, tmp_path / 'a.txt', '--percent', '7', check=False)
    assert done.returncode == 1 and not (tmp_path / 'a.txt').exists()
    assert '9 classes' in done.stderr.strip().splitlines()[-1]


def test_export_the_detector(tool, config, partial_config, partial_run, tmp_path):
    out = tmp_path / 'plain.pth'
    for check in (config, partial_config):
        tool(EXPORT, partial_run / 'iter_8.pth', out, '--config', check)
    plain = torch.load(out, weights_only=True)
    whole = torch.load(partial_run / 'iter_8.pth', weights_only=False)['state_dict']
    assert plain['meta']['dataset_meta']['classes'] == tuple('0123456789')
    for key, value in plain['state_dict'].items():
        assert torch.equal(value, whole[f'detector.{key}'])
    # The plain config loads the exported weights.
    done = tool('tools/test.py', config, out, '--work-dir', tmp_path / 'test')
    assert 'coco/bbox_mAP' in done.stdout + done.stderr
    assert 'size mismatch' not in done.stderr
    assert 'missing keys' not in done.stdout + done.stderr


def test_report_two_runs_beside_each_other(tool, partial_run, trained):
    text = tool('tools/analysis_tools/report.py', partial_run, '--beside', trained).stdout
    assert re.search(rf'\n +{trained.name} +{partial_run.name}\n', text)
    assert re.search(r'iterations +8 +8\n', text)
    assert re.search(r'image/mAP +\d\.\d{3}\n', text)
    for name in ('curves.png', 'val_grid.png'):
        assert (partial_run / name).read_bytes().startswith(b'\x89PNG')
    done = tool('tools/analysis_tools/report.py', partial_run, '--beside', partial_run, check=False)
    assert 'have the same folder name' in done.stderr


def test_export_a_plain_checkpoint(tool, trained, tmp_path):
    done = tool(EXPORT, trained / 'iter_8.pth', tmp_path / 'a.pth', check=False)
    assert done.returncode == 1 and not (tmp_path / 'a.pth').exists()
    assert 'no weights named "detector.' in done.stderr


def test_export_for_a_config_that_does_not_fit(tool, partial_run, tmp_path):
    other, out = tmp_path / 'other.py', tmp_path / 'a.pth'
    Config(dict(model=tiny_rfcn(num_classes=3))).dump(other)
    done = tool(EXPORT, partial_run / 'iter_8.pth', out, '--config', other, check=False)
    assert done.returncode == 1 and not out.exists()
    assert 'does not fit' in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize('multi_task', [False, True])
def test_export_from_a_teacher(tool, tmp_path, multi_task):
    """Teacher and student have other weights; the result fits the plain detector exactly."""
    plain = detector = tiny_rfcn(num_classes=10)
    if multi_task:
        head = dict(type='mmgwap.ImageClsHead', num_classes=10, in_channels=64)
        detector = dict(type='mmgwap.MultiTaskDetector', detector=plain, cls_head=head)
    model = MODELS.build(dict(type='mmgwap.LabelGuidedTeacher', detector=detector))
    for name, part in (('teacher', model.teacher), ('student', model.student)):
        torch.nn.init.constant_(next(part.parameters()), dict(teacher=1, student=2)[name])
    torch.save(dict(state_dict=model.state_dict(), meta=dict(iter=3)), tmp_path / 'both.pth')
    for name, cfg in (('plain', plain), ('teacher', dict(type='x', detector=detector))):
        Config(dict(model=cfg)).dump(tmp_path / f'{name}.py')
    for config, options, value in (('plain', [], 1), ('teacher', ['--student'], 2)):
        out = tmp_path / f'{value}.pth'
        options += ['--config', tmp_path / f'{config}.py']
        tool(EXPORT, tmp_path / 'both.pth', out, *options)
        content = torch.load(out, weights_only=True)
        MODELS.build(plain).load_state_dict(content['state_dict'], strict=True)
        assert torch.unique(next(iter(content['state_dict'].values()))).tolist() == [value]
        assert content['meta'] == dict(iter=3)


def test_export_the_student_of_no_teacher(tool, partial_run, tmp_path):
    options = tmp_path / 'a.pth', '--student'
    done = tool(EXPORT, partial_run / 'iter_8.pth', *options, check=False)
    assert done.returncode == 1 and not options[0].exists()
    assert 'no weights named "student.*"' in done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_start_a_multi_task_detector_from_a_plain_checkpoint(
    tool, partial_config, trained, tmp_path
):
    changes = f'load_from={trained / "iter_8.pth"}', 'train_cfg.max_iters=1'
    options = '--work-dir', tmp_path, '--cfg-options', *changes
    done = tool('tools/train.py', partial_config, *options)
    text = done.stdout + done.stderr
    assert 'Load checkpoint from' in text
    missing = [line for line in text.splitlines() if 'missing keys in source state_dict' in line]
    assert missing and 'detector.' not in missing[0]
