"""The command-line tools, as a user calls them."""

import json
import os
import pickle
import re
import subprocess
import sys

import pytest

from tests.checkpoints import read_checkpoint


def scalars(work_dir):
    return [
        json.loads(line)
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]


def test_training_leaves_checkpoint_losses_and_metric(trained):
    rows = scalars(trained)
    losses = [row['loss'] for row in rows if 'loss' in row]
    assert len(losses) == 8 and all(0 < loss < 100 for loss in losses)
    # At its iteration, so that it can be drawn beside the losses.
    assert [row['step'] for row in rows if 'coco/bbox_mAP' in row] == [8]
    state = read_checkpoint(trained / 'iter_8.pth')
    assert state['meta']['iter'] == 8
    assert any(key.startswith('roi_head.bbox_head.conv_new') for key in state['state_dict'])


def test_the_command_line_is_mmdets(tool):
    text = tool('tools/train.py', '--help').stdout
    for option in (
        '--work-dir',
        '--amp',
        '--auto-scale-lr',
        '--resume',
        '--cfg-options',
        '--launcher',
    ):
        assert option in text
    text = tool('tools/test.py', '--help').stdout
    for option in ('--out', '--show-dir', '--tta', '--work-dir'):
        assert option in text


@pytest.mark.parametrize('options', [[], ['--tta']])
def test_testing_gives_the_metric(tool, trained, config, options, tmp_path):
    tool(
        'tools/test.py',
        config,
        trained / 'iter_8.pth',
        '--work-dir',
        tmp_path,
        '--out',
        tmp_path / 'out.pkl',
        *options,
    )
    (result,) = [json.loads(path.read_text()) for path in tmp_path.glob('*/*.json')]
    assert 0 <= result['coco/bbox_mAP'] <= 1
    predictions = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    assert len(predictions) == 8
    assert predictions[0]['pred_instances']['bboxes'].shape[1] == 4


def test_auto_scale_lr(tool, config, tmp_path):
    rates = []
    for options in ([], ['--auto-scale-lr']):
        work_dir = tmp_path / f'{len(rates)}'
        # 4 images a step, where the config's rate would be for 8.
        tool(
            'tools/train.py',
            config,
            '--work-dir',
            work_dir,
            *options,
            '--cfg-options',
            'train_cfg.max_iters=1',
            'auto_scale_lr.base_batch_size=8',
        )
        rates.append(scalars(work_dir)[0]['lr'])
    assert rates[1] == pytest.approx(rates[0] / 2)


def test_report_draws_what_was_trained(tool, trained):
    table = tool('tools/analysis_tools/report.py', trained, '--images', '3').stdout
    assert re.search(r'iterations +8\n', table)
    assert 'coco/bbox_mAP_50' in table
    for name in ('curves.png', 'val_grid.png'):
        assert f'{trained / name}' in table
        assert (trained / name).read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize('missing', ['config', 'checkpoint', 'scalars'])
def test_report_names_what_is_missing(tool, tmp_path, missing):
    if missing != 'config':
        (tmp_path / 'config.py').write_text('a = 1')
    if missing == 'scalars':
        (tmp_path / 'last_checkpoint').write_text('iter_8.pth')
    done = tool('tools/analysis_tools/report.py', tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().startswith(str(tmp_path))
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_two_processes_train_and_test(repo, config, tmp_path):
    def run(*command):
        done = subprocess.run(
            [str(part) for part in command] + ['--work-dir', str(tmp_path)],
            cwd=repo,
            capture_output=True,
            text=True,
            env=dict(os.environ, PYTHON=sys.executable, PORT='29611'),
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    run('tools/dist_train.sh', config, 2, '--cfg-options', 'train_cfg.max_iters=4')
    state = read_checkpoint(tmp_path / 'iter_4.pth')
    assert state['meta']['iter'] == 4
    text = run('tools/dist_test.sh', config, tmp_path / 'iter_4.pth', 2)
    assert 'coco/bbox_mAP' in text


def test_no_thread_of_the_group_outlives_the_run(tool, config, tmp_path):
    # One that does can abort the process while the interpreter ends.
    script = (
        'import pathlib, sys\n'
        'from tools.run_mmdet_tool import run_tool\n'
        "sys.argv[1:] = [*sys.argv[1:], '--launcher', 'pytorch']\n"
        "run_tool('train.py')\n"
        "for task in pathlib.Path('/proc/self/task').iterdir():\n"
        "    print('thread', (task / 'comm').read_text().strip())\n"
    )
    done = tool(
        '-c',
        script,
        config,
        '--work-dir',
        tmp_path,
        '--cfg-options',
        'train_cfg.max_iters=1',
        CUDA_VISIBLE_DEVICES='',
        RANK='0',
        LOCAL_RANK='0',
        WORLD_SIZE='1',
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT='29612',
    )
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
def test_wrong_configs_are_named(tool, config, tmp_path, change, message):
    done = tool(
        'tools/train.py', config, '--work-dir', tmp_path, '--cfg-options', change, check=False
    )
    assert done.returncode == 1
    assert message in done.stderr.strip().splitlines()[-1]
