"""Train, test and visualize an image classifier with the tools."""

import json
import re

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config

from mmgwap.checkpoint import allow_training_state
from tests.toy_data import tiny_rfcn_run

register_all_modules()

ONE_THREAD = dict(OMP_NUM_THREADS='1')
VISUALIZE = 'tools/analysis_tools/visualize_maps.py'


@pytest.fixture(scope='module')
def config(repo, single, tmp_path_factory):
    """Path of a config that trains a classifier for 4 iterations on ``single``."""
    cfg = Config.fromfile(repo / 'configs/wsol/r18_cs-gwap_digits-single.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = f'{single}/'
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.metadata_root = f'{single}/metadata/val/'
        evaluator.mask_root = f'{single}/masks/'
    cfg.train_cfg.update(max_iters=4, val_interval=4)
    cfg.param_scheduler[1].end = 101
    # Batches of one and one thread: rounding decides the level of a pixel.
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.batch_size = 1
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    cfg.dump(path)
    return path


@pytest.fixture(scope='module')
def trained(tool, config, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('run')
    tool('tools/train.py', config, '--work-dir', work_dir)
    return work_dir / 'iter_4.pth'


def metrics_in(text):
    """Return the results that WSOLMetric logged."""
    return dict(re.findall(r'wsol/(\w+): ([\d.]+)', text))


@pytest.mark.slow
def test_one_and_two_processes_measure_the_same(run_script, tool, config, trained, tmp_path):
    """A padded sampler would count one of the seven images twice."""
    done = tool('tools/test.py', config, trained, '--work-dir', tmp_path, **ONE_THREAD)
    expected = metrics_in(done.stdout + done.stderr)
    assert {'top1_error', 'gt_known', 'max_box_acc_v2', 'px_ap'} <= set(expected)
    text = run_script('dist_test.sh', config, trained, 2, '--work-dir', tmp_path, **ONE_THREAD)
    assert metrics_in(text) == expected
    assert 'twice' not in text


@pytest.mark.slow
def test_eval_heatmaps_measures_visualized_maps(tool, config, trained, single, tmp_path):
    """eval_heatmaps.py and WSOLMetric agree on the same maps."""
    done = tool('tools/test.py', config, trained, '--work-dir', tmp_path / 'run', **ONE_THREAD)
    wanted = metrics_in(done.stdout + done.stderr)
    tool(VISUALIZE, config, trained, 'val', '--true', '--out', tmp_path / 'seen', **ONE_THREAD)
    (tmp_path / 'val').mkdir()
    for line in (single / 'metadata/val/class_labels.txt').read_text().split():
        image, label = line.split(',')
        stem = image.replace('/', '_').replace('.', '_')
        (tmp_path / 'seen' / 'maps' / f'{stem}_{label}.npy').rename(tmp_path / f'{image}.npy')
    options = '--mask-root', single / 'masks', '--out', tmp_path / 'found.json'
    tool('tools/analysis_tools/eval_heatmaps.py', tmp_path, single / 'metadata/val', *options)
    found = json.loads((tmp_path / 'found.json').read_text())['results']
    compared = {name: f'{value:.4f}' for name, value in found.items() if name in wanted}
    assert compared == {name: wanted[name] for name in compared}
    assert {'max_box_acc', 'max_box_acc_v2', 'px_ap'} <= set(compared)


def test_inferencer_and_visualizer(config, trained, single, tmp_path):
    with allow_training_state():
        inferencer = DetInferencer(str(config), str(trained), device='cpu')
    images = sorted(str(path) for path in (single / 'val').iterdir())[:2]
    result = inferencer(images, out_dir=str(tmp_path), pred_score_thr=0.0, no_save_pred=False)
    for found in result['predictions']:
        assert len(found['labels']) == len(found['bboxes']) == len(found['scores'])
        assert found['scores'] == sorted(found['scores'], reverse=True)
        assert np.array(found['bboxes']).max() <= 128
    assert len(list(tmp_path.glob('vis/*'))) == 2


def test_visualize_a_multi_task_detector(repo, tool, digits, tmp_path):
    """Draw image-level maps, not gradient CAMs."""
    cfg = tiny_rfcn_run(repo / 'configs', digits)
    head = dict(type='mmgwap.ImageClsHead', source='backbone', num_classes=10, in_channels=64)
    cfg.model = dict(type='mmgwap.MultiTaskDetector', detector=cfg.model, cls_head=head)
    cfg.dump(tmp_path / 'tiny.py')
    meta = dict(dataset_meta=dict(classes=tuple('0123456789')))
    checkpoint = dict(state_dict=MODELS.build(cfg.model).state_dict(), meta=meta)
    torch.save(checkpoint, tmp_path / 'tiny.pth')
    options = ['--out', tmp_path / 'out', *'--top-k 2 --limit 2'.split()]
    done = tool(VISUALIZE, tmp_path / 'tiny.py', tmp_path / 'tiny.pth', 'val', *options)
    assert '4 maps' in done.stdout and 'method own' in done.stdout
    assert len(list((tmp_path / 'out' / 'maps').iterdir())) == 4
