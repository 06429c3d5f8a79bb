"""``kill -9`` at random moments, twenty times in one training."""

import re

import torch

from tests.checkpoints import read_checkpoint

ITERATIONS, KILLS = 80, 20


def test_the_weights_are_those_of_a_run_never_killed(tool, config, tmp_path):
    text = tool(
        '-m',
        'tests.engine.killed_training',
        config,
        tmp_path,
        ITERATIONS,
        KILLS,
        OMP_NUM_THREADS='1',
    ).stdout
    places = [
        0 if name == 'none' else int(name[5:])
        for name in re.findall(r'kill \d+: (none|iter_\d+)', text)
    ]
    assert len(places) == KILLS and places == sorted(places)
    # It was under way whenever it was killed, and came far that way.
    assert 0 < places[-1] < ITERATIONS
    killed, whole = (
        read_checkpoint(tmp_path / name / f'iter_{ITERATIONS}.pth') for name in ('killed', 'whole')
    )
    assert killed['meta']['seed'] == whole['meta']['seed']
    for name, value in whole['state_dict'].items():
        assert torch.equal(value, killed['state_dict'][name]), name
    for index, state in whole['optimizer']['state'].items():
        for name, value in state.items():
            other = killed['optimizer']['state'][index][name]
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(other)), (index, name)
