"""Train in two processes whose batches contain different kinds of images."""

import pytest

from tests.processes import launch
from tests.toy_data import DETECTORS

# 25 steps pass each pair of batches once.
STEPS = {name: 200 if name == 'rfcn' else 25 for name in DETECTORS}


@pytest.mark.parametrize('model', ['MultiTaskDetector', 'LabelGuidedTeacher'])
@pytest.mark.parametrize(
    'name, steps',
    [('rtmdet', 7), *(pytest.param(*item, marks=pytest.mark.slow) for item in STEPS.items())],
)
def test_every_combination_of_batches(repo, name, steps, model):
    for done in launch(repo, 2, 'tests.models.distributed_steps', name, steps, model):
        assert done.returncode == 0, done.stderr[-3000:]
        assert float(done.stdout.split()[-1]) > 0
