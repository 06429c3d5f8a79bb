"""Interrupted runs go on, and checkpoints never run code."""
import builtins
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

import mmgwap  # noqa: F401  (allows the training state)


def losses(work_dir):
    rows = [json.loads(line)
            for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
            for line in path.read_text().splitlines()]
    return [(row['step'], row['loss']) for row in rows if 'loss' in row]


def test_resume_after_a_kill(tool, repo, config, trained, tmp_path):
    """The run goes on where it was saved, with weights and optimizer."""
    command = [sys.executable, '-W', 'ignore', 'tools/train.py', str(config),
               '--work-dir', str(tmp_path)]
    # Endless, so that the kill is sure to come while it trains.
    process = subprocess.Popen(
        command + ['--cfg-options', 'train_cfg.max_iters=100000'], cwd=repo,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 240
    while not (tmp_path / 'last_checkpoint').exists():
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    saved = int((tmp_path / 'last_checkpoint').read_text().split('iter_')[1]
                .split('.')[0])
    before = len(losses(tmp_path))
    tool(*command[3:], '--resume', '--cfg-options',
         f'train_cfg.max_iters={saved + 2}')
    steps = [step for step, _ in losses(tmp_path)[before:]]
    assert steps == [saved + 1, saved + 2]
    state = torch.load(tmp_path / f'iter_{saved + 2}.pth', weights_only=True)
    assert state['optimizer']['state'][0]['step'] == saved + 2
    # Batch norm counts the batches that its statistics have seen.
    assert state['state_dict']['backbone.bn1.num_batches_tracked'] == saved + 2


class Payload:
    """Pickled, it writes a file wherever it is loaded without care."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f'echo was here > {self.target}', )


class Gadget:
    """Pickled, it reaches Python's built-in functions by attributes alone.

    An object whose ``__setstate__`` is then set to ``exec`` runs the rest.
    """

    def __init__(self, target):
        del target

    def __reduce__(self):
        return getattr, (getattr, '__self__')


class Array:
    """Pickled, it asks numpy to take bytes of the file for pointers."""

    def __init__(self, target):
        del target

    def __reduce__(self):
        return set, (ObjectArray(), )


class ObjectArray:

    def __reduce__(self):
        return np.ndarray, ((0, ), np.dtype('O'), bytearray(8))


@pytest.fixture(params=[Payload, Gadget, Array])
def hostile(request, trained, tmp_path):
    """A good checkpoint with a payload in it, and the file that it writes."""
    state = torch.load(trained / 'iter_8.pth', weights_only=True)
    proof = tmp_path / 'proof'
    state['meta']['extra'] = request.param(proof)
    torch.save(state, tmp_path / 'hostile.pth')
    return tmp_path / 'hostile.pth', proof


def test_the_payload_would_work(hostile):
    path, proof = hostile
    extra = torch.load(path, weights_only=False)['meta']['extra']
    assert proof.exists() or extra is builtins or extra == set()


@pytest.mark.parametrize('command', ['resume', 'load_from', 'test', 'report',
                                     'export'])
def test_a_checkpoint_with_code_is_refused(tool, config, trained, hostile,
                                           command, tmp_path):
    path, proof = hostile
    work_dir = tmp_path / 'run'
    if command == 'report':
        work_dir.mkdir()
        for file in trained.glob('*.py'):
            (work_dir / file.name).write_bytes(file.read_bytes())
        logs = work_dir / 'a' / 'vis_data'
        logs.mkdir(parents=True)
        scalars, = trained.glob('*/vis_data/scalars.json')
        (logs / 'scalars.json').write_bytes(scalars.read_bytes())
        (work_dir / 'last_checkpoint').write_text('hostile.pth')
        path = path.rename(work_dir / 'hostile.pth')
    done = tool(*dict(
        resume=['tools/train.py', config, '--resume', path, '--work-dir',
                work_dir],
        load_from=['tools/train.py', config, '--work-dir', work_dir,
                   '--cfg-options', f'load_from={path}'],
        test=['tools/test.py', config, path, '--work-dir', work_dir],
        report=['tools/analysis_tools/report.py', work_dir],
        export=['tools/model_converters/export_detector.py', path,
                tmp_path / 'plain.pth'])[command],
        check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('refused to read the checkpoint')
    assert re.search(r'system|getattr|numpy\.dtype', last)
    assert not proof.exists()


@pytest.mark.parametrize('module', [b'numpy.core', b'numpy._core'])
@pytest.mark.parametrize('value', [
    np.float64(1.5), np.int64(3), np.float32(2.5), np.bool_(True),
    np.arange(3.)], ids=repr)
def test_training_state_of_either_numpy_is_read(module, value, tmp_path):
    """numpy 2 moved the functions that its pickles refer to."""
    torch.save(dict(value=value), tmp_path / 'new.pth')
    with zipfile.ZipFile(tmp_path / 'new.pth') as source, \
            zipfile.ZipFile(tmp_path / 'other.pth', 'w') as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith('data.pkl'):
                data = re.sub(rb'numpy\._?core', module, data)
                assert module in data
            target.writestr(name, data)
    loaded = torch.load(tmp_path / 'other.pth', weights_only=True)['value']
    np.testing.assert_array_equal(loaded, value)
    assert isinstance(loaded, type(value)) and loaded.dtype == value.dtype
    # Saved again, it is numpy's own: others can read it.
    again = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(again, value)
    assert type(again) is type(value)


@pytest.mark.parametrize('content', [b'', b'<html>Not found</html>',
                                     b'PK\x03\x04' + bytes(100)])
def test_a_broken_file_is_not_called_malicious(tool, config, content,
                                               tmp_path):
    (tmp_path / 'broken.pth').write_bytes(content)
    done = tool('tools/test.py', config, tmp_path / 'broken.pth',
                '--work-dir', tmp_path, check=False)
    assert done.returncode == 1
    assert 'refused' not in done.stderr
