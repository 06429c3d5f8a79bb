"""Two processes whose batches differ in what they have of boxes."""

import pytest

from tests.processes import launch
from tests.toy_data import DETECTORS


@pytest.mark.parametrize(
    'name, steps', [(name, 200 if name == 'rfcn' else 25) for name in DETECTORS]
)
def test_every_combination_of_batches(repo, name, steps):
    for done in launch(repo, 2, 'tests.models.distributed_steps', name, steps):
        assert done.returncode == 0, done.stderr[-3000:]
        assert float(done.stdout.split()[-1]) > 0
