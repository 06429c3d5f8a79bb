"""``kill -9`` at random moments of a training."""

import re

import pytest
import torch

from tests.checkpoints import read_checkpoint


@pytest.mark.parametrize(
    'model, iterations, kills',
    [('tiny', 24, 3), pytest.param('detector', 80, 20, marks=pytest.mark.slow)],
)
def test_weights_equal_those_of_a_run_that_was_never_killed(
    tool, config, tmp_path, model, iterations, kills
):
    module = 'tests.engine.killed_training'
    text = tool('-m', module, config, tmp_path, model, iterations, kills).stdout
    saved = [
        0 if name == 'none' else int(name[5:])
        for name in re.findall(r'kill \d+: (none|iter_\d+)', text)
    ]
    assert len(saved) == kills and saved == sorted(saved)
    assert 0 < saved[-1] < iterations
    killed, whole = (
        read_checkpoint(tmp_path / name / f'iter_{iterations}.pth') for name in ('killed', 'whole')
    )
    assert killed['meta']['seed'] == whole['meta']['seed']
    for name, value in whole['state_dict'].items():
        assert torch.equal(value, killed['state_dict'][name]), name
    for index, state in whole['optimizer']['state'].items():
        for name, value in state.items():
            other = killed['optimizer']['state'][index][name]
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(other)), (index, name)
