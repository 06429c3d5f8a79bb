"""Interrupted runs go on."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import torch

from tests.checkpoints import read_checkpoint


def losses(work_dir):
    rows = [
        json.loads(line)
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    return [(row['step'], row['loss']) for row in rows if 'loss' in row]


def test_resume_after_a_kill(tool, repo, config, trained, tmp_path):
    """The run goes on where it was saved, with weights and optimizer."""
    command = [
        sys.executable,
        '-W',
        'ignore',
        'tools/train.py',
        str(config),
        '--work-dir',
        str(tmp_path),
    ]
    # Endless, so that the kill is sure to come while it trains.
    process = subprocess.Popen(
        command + ['--cfg-options', 'train_cfg.max_iters=100000'],
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
    tool(*command[3:], '--resume', '--cfg-options', f'train_cfg.max_iters={saved + 2}')
    steps = [step for step, _ in losses(tmp_path)[before:]]
    assert steps == [saved + 1, saved + 2]
    state = read_checkpoint(tmp_path / f'iter_{saved + 2}.pth')
    assert state['optimizer']['state'][0]['step'] == saved + 2
    # Batch norm counts the batches that its statistics have seen.
    assert state['state_dict']['backbone.bn1.num_batches_tracked'] == saved + 2


def test_before_the_first_checkpoint_it_starts_as_the_config_says(tool, config, trained, tmp_path):
    """From ``load_from``, which mmdet's --resume forgets."""
    first = []
    for name, options in (('plain', []), ('resumed', ['--resume'])):
        done = tool(
            'tools/train.py',
            config,
            '--work-dir',
            tmp_path / name,
            *options,
            '--cfg-options',
            'train_cfg.max_iters=1',
            f'load_from={trained / "iter_8.pth"}',
        )
        first += losses(tmp_path / name)
        assert ('nothing to resume in ' in done.stdout) == bool(options)
    assert first[0] == first[1] and len(first) == 2
    tool(
        'tools/train.py',
        config,
        '--work-dir',
        tmp_path / 'random',
        '--cfg-options',
        'train_cfg.max_iters=1',
    )
    assert losses(tmp_path / 'random')[0] != first[0]


@pytest.mark.parametrize('module', [b'numpy.core', b'numpy._core'])
@pytest.mark.parametrize(
    'value',
    [np.float64(1.5), np.int64(3), np.float32(2.5), np.bool_(True), np.arange(3.0)],
    ids=repr,
)
def test_training_state_of_either_numpy_is_read(module, value, tmp_path):
    """numpy 2 moved the functions that its pickles refer to."""
    torch.save(dict(value=value), tmp_path / 'new.pth')
    with (
        zipfile.ZipFile(tmp_path / 'new.pth') as source,
        zipfile.ZipFile(tmp_path / 'other.pth', 'w') as target,
    ):
        for name in source.namelist():
            data = source.read(name)
            if name.endswith('data.pkl'):
                data = re.sub(rb'numpy\._?core', module, data)
                assert module in data
            target.writestr(name, data)
    loaded = read_checkpoint(tmp_path / 'other.pth')['value']
    np.testing.assert_array_equal(loaded, value)
    assert isinstance(loaded, type(value)) and loaded.dtype == value.dtype
    # Saved again, it is numpy's own: others can read it.
    again = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(again, value)
    assert type(again) is type(value)


@pytest.mark.parametrize('content', [b'', b'<html>Not found</html>', b'PK\x03\x04' + bytes(100)])
def test_a_broken_file_is_not_called_malicious(tool, config, content, tmp_path):
    (tmp_path / 'broken.pth').write_bytes(content)
    done = tool(
        'tools/test.py', config, tmp_path / 'broken.pth', '--work-dir', tmp_path, check=False
    )
    assert done.returncode == 1
    assert 'refused' not in done.stderr
