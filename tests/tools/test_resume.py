"""Interrupted runs continue."""

import json
import os
import signal
import subprocess
import sys
import time

from tests.checkpoints import read_checkpoint


def losses(work_dir):
    rows = [
        json.loads(line)
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    return [(row['step'], row['loss']) for row in rows if 'loss' in row]


def test_resume_after_a_kill(tool, repo, config, trained, tmp_path):
    """The run continues with the weights and the optimizer state of the last checkpoint."""
    command = ['tools/train.py', config, '--work-dir', tmp_path]
    # The run is long enough to be killed during training.
    process = subprocess.Popen(
        [sys.executable, *command, '--cfg-options', 'train_cfg.max_iters=100000'],
        cwd=repo,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.time() + 240
    while not (tmp_path / 'last_checkpoint').exists():
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    saved = int((tmp_path / 'last_checkpoint').read_text().split('iter_')[1].split('.')[0])
    before = len(losses(tmp_path))
    tool(*command, '--resume', '--cfg-options', f'train_cfg.max_iters={saved + 2}')
    steps = [step for step, _ in losses(tmp_path)[before:]]
    assert steps == [saved + 1, saved + 2]
    state = read_checkpoint(tmp_path / f'iter_{saved + 2}.pth')
    assert state['optimizer']['state'][0]['step'] == saved + 2
    # Batch norm counts its batches.
    assert state['state_dict']['backbone.bn1.num_batches_tracked'] == saved + 2


def test_resume_without_a_checkpoint_keeps_load_from(tool, config, trained, tmp_path):
    """mmdet's --resume ignores ``load_from``."""

    def train(name, *options, **changes):
        changes = [f'{key}={value}' for key, value in changes.items()]
        options += ('--cfg-options', 'train_cfg.max_iters=1', *changes)
        done = tool('tools/train.py', config, '--work-dir', tmp_path / name, *options)
        assert ('nothing to resume in ' in done.stdout) == ('--resume' in options)
        (loss,) = losses(tmp_path / name)
        return loss

    checkpoint = trained / 'iter_8.pth'
    loss = train('plain', load_from=checkpoint)
    assert train('resumed', '--resume', load_from=checkpoint) == loss
    assert train('random') != loss
