"""No command runs code from a checkpoint."""

import itertools
import re
import shutil

import pytest
import torch

from tests.checkpoints import read_checkpoint
from tests.test_checkpoint import PAYLOADS

# Commands that read a checkpoint. {path} is the checkpoint, {config} its config, {work} an output
# folder, and {run} the folder of a training with this checkpoint as its last.
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
    pseudo_label='tools/pseudo_label.py {config} {path} --out {work}/boxes.json',
    lip='tools/model_converters/lip_to_mmgwap.py {path} {work}/out.pth',
)

# Scripts that read only checkpoints that they have written themselves.
OWN = {f'compare/{name}.py' for name in ('__main__', 'poolings', 'results', 'training')}
OWN.add('analysis_tools/prediction_grid.py')
READS = r'load_checkpoint|torch\.load|load_from|init_detector'


@pytest.fixture
def hostile(trained, tmp_path):
    """Function that adds a payload to a good checkpoint; returns its path and the proof."""

    def write(payload):
        state = read_checkpoint(trained / 'iter_8.pth')
        proof = tmp_path / 'proof'
        state['meta']['extra'] = payload(proof)
        torch.save(state, tmp_path / 'hostile.pth')
        return tmp_path / 'hostile.pth', proof

    return write


@pytest.mark.parametrize('command, payload', zip(COMMANDS, itertools.cycle(PAYLOADS)))
def test_hostile_checkpoints_are_refused(
    tool, config, trained, hostile, command, payload, tmp_path
):
    path, proof = hostile(payload)
    run = tmp_path / 'run'
    shutil.copytree(trained, run)
    shutil.copy(path, run / 'iter_8.pth')
    (run / 'last_checkpoint').write_text(str(run / 'iter_8.pth'))
    arguments = COMMANDS[command].format(
        path=path, config=config, work=tmp_path / 'work', run=run, good=trained
    )
    done = tool(*arguments.split(), check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('refused to read the checkpoint')
    assert re.search(r'system|getattr|numpy\.dtype', last)
    assert not proof.exists()


def test_all_commands_that_read_checkpoints_are_tested(repo):
    tested = {text.split()[0] for text in COMMANDS.values()}
    others = [
        path for path in (repo / 'tools').rglob('*.py') if str(path.relative_to(repo)) not in tested
    ]
    assert len(others) > len(OWN)
    for path in others:
        name = str(path.relative_to(repo / 'tools'))
        assert name in OWN or not re.search(READS, path.read_text()), name
