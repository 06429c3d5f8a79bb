"""No command runs code from a checkpoint."""

import builtins
import os
import re
import shutil

import numpy as np
import pytest
import torch

from tests.checkpoints import read_checkpoint

# Each command that takes a checkpoint: {path} of it, {config} that fits it,
# {work} a folder, {run} a copy of a training's with it as the last.
COMMANDS = dict(
    resume='tools/train.py {config} --work-dir {work} --resume {path}',
    auto_resume='tools/train.py {config} --work-dir {run} --resume',
    load_from='tools/train.py {config} --work-dir {work} --cfg-options load_from={path}',
    init_cfg='tools/train.py {config} --work-dir {work} --cfg-options '
    'model.init_cfg.type=Pretrained model.init_cfg.checkpoint={path}',
    test='tools/test.py {config} {path} --work-dir {work}',
    report='tools/analysis_tools/report.py {run}',
    report_beside='tools/analysis_tools/report.py {good} --beside {run}',
    maps='tools/analysis_tools/visualize_maps.py {config} {path} val '
    '--method layer_cam --layer backbone.layer4 --out {work}',
    export='tools/model_converters/export_detector.py {path} {work}/out.pth',
    lip='tools/model_converters/lip_to_mmgwap.py {path} {work}/out.pth',
)

# Those that read none but what they have written themselves; their parts are
# no commands.
OWN = {
    'compare/__main__.py',
    'compare/poolings.py',
    'compare/results.py',
    'compare/training.py',
    'analysis_tools/prediction_grid.py',
}
READS = r'load_checkpoint|torch\.load|load_from|init_detector'


class Payload:
    """Pickled, it writes a file wherever it is loaded without care."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f'echo was here > {self.target}',)


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
        return set, (ObjectArray(),)


class ObjectArray:
    def __reduce__(self):
        return np.ndarray, ((0,), np.dtype('O'), bytearray(8))


@pytest.fixture(params=[Payload, Gadget, Array])
def hostile(request, trained, tmp_path):
    """A good checkpoint with a payload in it, and the file that it writes."""
    state = read_checkpoint(trained / 'iter_8.pth')
    proof = tmp_path / 'proof'
    state['meta']['extra'] = request.param(proof)
    torch.save(state, tmp_path / 'hostile.pth')
    return tmp_path / 'hostile.pth', proof


def test_the_payload_would_work(hostile):
    path, proof = hostile
    extra = torch.load(path, weights_only=False)['meta']['extra']
    assert proof.exists() or extra is builtins or extra == set()


@pytest.fixture
def run(trained, hostile, tmp_path):
    """A training's folder with the bad file as the last checkpoint."""
    folder = tmp_path / 'run'
    shutil.copytree(trained, folder)
    shutil.copy(hostile[0], folder / 'iter_8.pth')
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_8.pth'))
    return folder


@pytest.mark.parametrize('command', COMMANDS)
def test_a_checkpoint_with_code_is_refused(tool, config, trained, hostile, run, command, tmp_path):
    path, proof = hostile
    parts = (
        COMMANDS[command]
        .format(path=path, config=config, work=tmp_path / 'work', run=run, good=trained)
        .split()
    )
    done = tool(*parts, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('refused to read the checkpoint')
    assert re.search(r'system|getattr|numpy\.dtype', last)
    assert not proof.exists()


def test_every_command_is_looked_at(repo):
    tested = {text.split()[0] for text in COMMANDS.values()}
    others = [
        path for path in (repo / 'tools').rglob('*.py') if str(path.relative_to(repo)) not in tested
    ]
    assert len(others) > len(OWN)
    for path in others:
        name = str(path.relative_to(repo / 'tools'))
        assert name in OWN or not re.search(READS, path.read_text()), name
