"""The command-line tools, as a user calls them."""
import json
import pickle
import re

import pytest
import torch


def scalars(work_dir):
    return [json.loads(line)
            for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
            for line in path.read_text().splitlines()]


def test_training_leaves_checkpoint_losses_and_metric(trained):
    rows = scalars(trained)
    losses = [row['loss'] for row in rows if 'loss' in row]
    assert len(losses) == 8 and all(0 < loss < 100 for loss in losses)
    assert any('coco/bbox_mAP' in row for row in rows)
    state = torch.load(trained / 'iter_8.pth', weights_only=True)
    assert state['meta']['iter'] == 8
    assert any(key.startswith('roi_head.bbox_head.conv_new')
               for key in state['state_dict'])


def test_the_command_line_is_mmdets(tool):
    text = tool('tools/train.py', '--help').stdout
    for option in ('--work-dir', '--amp', '--auto-scale-lr', '--resume',
                   '--cfg-options', '--launcher'):
        assert option in text
    text = tool('tools/test.py', '--help').stdout
    for option in ('--out', '--show-dir', '--tta', '--work-dir'):
        assert option in text


@pytest.mark.parametrize('options', [[], ['--tta']])
def test_testing_gives_the_metric(tool, trained, config, options, tmp_path):
    tool('tools/test.py', config, trained / 'iter_8.pth', '--work-dir',
         tmp_path, '--out', tmp_path / 'out.pkl', *options)
    result, = [json.loads(path.read_text())
               for path in tmp_path.glob('*/*.json')]
    assert 0 <= result['coco/bbox_mAP'] <= 1
    predictions = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    assert len(predictions) == 8
    assert predictions[0]['pred_instances']['bboxes'].shape[1] == 4


def test_auto_scale_lr(tool, config, tmp_path):
    tool('tools/train.py', config, '--work-dir', tmp_path, '--auto-scale-lr',
         '--cfg-options', 'train_cfg.max_iters=1')
    scaled = scalars(tmp_path)[0]['lr']
    other = tmp_path / 'other'
    tool('tools/train.py', config, '--work-dir', other, '--cfg-options',
         'train_cfg.max_iters=1')
    # The config is for 8 images a step, and the run takes 4.
    assert scaled == pytest.approx(scalars(other)[0]['lr'] / 2)


def test_report_draws_what_was_trained(tool, trained):
    table = tool('tools/analysis_tools/report.py', trained, '--images',
                 '3').stdout
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


def test_two_processes_train_and_test(tool, config, tmp_path):
    tool('-c', 'import subprocess, sys; sys.exit(subprocess.call('
         'sys.argv[1:]))', 'tools/dist_train.sh', config, 2, '--work-dir',
         tmp_path, '--cfg-options', 'env_cfg.dist_cfg.backend=gloo',
         'train_cfg.max_iters=4', PORT='29611', PYTHON=python())
    assert (tmp_path / 'iter_4.pth').exists()
    done = tool('-c', 'import subprocess, sys; sys.exit(subprocess.call('
                'sys.argv[1:]))', 'tools/dist_test.sh', config,
                tmp_path / 'iter_4.pth', 2, '--work-dir', tmp_path,
                '--cfg-options', 'env_cfg.dist_cfg.backend=gloo',
                PORT='29612', PYTHON=python())
    assert 'coco/bbox_mAP' in done.stdout + done.stderr


def python():
    import sys
    return sys.executable


@pytest.mark.parametrize('change, message', [
    ('train_dataloader.dataset.ann_file=annotations/none.json',
     'annotations/none.json'),
    ('model.roi_head.bbox_head.num_classes=3', 'num_classes'),
])
def test_wrong_configs_are_named(tool, config, tmp_path, change, message):
    done = tool('tools/train.py', config, '--work-dir', tmp_path,
                '--cfg-options', change, check=False)
    assert done.returncode == 1
    assert message in done.stderr.strip().splitlines()[-1]
