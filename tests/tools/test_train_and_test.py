"""The command-line tools, as a user calls them."""

import json
import pickle
import re

import pytest

from tests.checkpoints import read_checkpoint
from tests.processes import free_port


def scalars(work_dir):
    return [
        json.loads(line)
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]


def test_train(trained):
    rows = scalars(trained)
    losses = [row['loss'] for row in rows if 'loss' in row]
    assert len(losses) == 8 and all(0 < loss < 100 for loss in losses)
    # Plots of metric and losses share the iterations.
    assert [row['step'] for row in rows if 'coco/bbox_mAP' in row] == [8]
    state = read_checkpoint(trained / 'iter_8.pth')
    assert state['meta']['iter'] == 8
    assert any(key.startswith('roi_head.bbox_head.conv_new') for key in state['state_dict'])


@pytest.mark.parametrize('options', [[], ['--tta']])
def test_evaluate_a_checkpoint(tool, trained, config, options, tmp_path):
    options = [*options, '--work-dir', tmp_path, '--out', tmp_path / 'out.pkl']
    tool('tools/test.py', config, trained / 'iter_8.pth', *options)
    (result,) = [json.loads(path.read_text()) for path in tmp_path.glob('*/*.json')]
    assert 0 <= result['coco/bbox_mAP'] <= 1
    predictions = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    assert len(predictions) == 8
    assert predictions[0]['pred_instances']['bboxes'].shape[1] == 4


def test_auto_scale_lr(tool, config, tmp_path):
    rates = []
    # A step has 4 images, and the learning rate of the config is for 8.
    changes = '--cfg-options train_cfg.max_iters=1 auto_scale_lr.base_batch_size=8'.split()
    for name, options in (('plain', []), ('scaled', ['--auto-scale-lr'])):
        work_dir = tmp_path / name
        tool('tools/train.py', config, '--work-dir', work_dir, *options, *changes)
        rates.append(scalars(work_dir)[0]['lr'])
    assert rates[1] == pytest.approx(rates[0] / 2)


def test_report(tool, trained):
    table = tool('tools/analysis_tools/report.py', trained, '--images', '3').stdout
    assert re.search(r'iterations +8\n', table)
    assert 'coco/bbox_mAP_50' in table
    for name in ('curves.png', 'val_grid.png'):
        assert f'{trained / name}' in table
        assert (trained / name).read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize('missing', ['config', 'checkpoint', 'scalars'])
def test_report_names_the_missing_file(tool, tmp_path, missing):
    if missing != 'config':
        (tmp_path / 'config.py').write_text('a = 1')
    if missing == 'scalars':
        (tmp_path / 'last_checkpoint').write_text('iter_8.pth')
    done = tool('tools/analysis_tools/report.py', tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().startswith(str(tmp_path))
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_two_processes_train_and_test(run_script, config, tmp_path):
    options = '--work-dir', tmp_path
    changes = '--cfg-options', 'train_cfg.max_iters=4'
    run_script('dist_train.sh', config, 2, *changes, *options)
    checkpoint = tmp_path / 'iter_4.pth'
    assert read_checkpoint(checkpoint)['meta']['iter'] == 4
    assert 'coco/bbox_mAP' in run_script('dist_test.sh', config, checkpoint, 2, *options)


LIST_THREADS = """
import pathlib, sys
from tools.run_mmdet_tool import run_tool
sys.argv[1:] = [*sys.argv[1:], '--launcher', 'pytorch']
run_tool('train.py')
for task in pathlib.Path('/proc/self/task').iterdir():
    print('thread', (task / 'comm').read_text().strip())
"""


def test_no_thread_of_the_process_group_outlives_the_run(tool, config, tmp_path):
    """A remaining thread can abort the process while the interpreter ends."""
    options = '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_iters=1'
    variables = dict(CUDA_VISIBLE_DEVICES='', RANK='0', LOCAL_RANK='0', WORLD_SIZE='1')
    variables.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    done = tool('-c', LIST_THREADS, config, *options, **variables)
    threads = [line for line in done.stdout.splitlines() if line.startswith('thread ')]
    assert threads
    assert not [name for name in threads if 'gloo' in name]


@pytest.mark.parametrize(
    'change, message',
    [
        ('train_dataloader.dataset.ann_file=annotations/none.json', 'annotations/none.json'),
        ('model.roi_head.bbox_head.num_classes=3', 'num_classes'),
    ],
)
def test_name_the_wrong_setting(tool, config, tmp_path, change, message):
    options = '--work-dir', tmp_path, '--cfg-options', change
    done = tool('tools/train.py', config, *options, check=False)
    assert done.returncode == 1
    assert message in done.stderr.strip().splitlines()[-1]
