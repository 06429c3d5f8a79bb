"""What the compiler makes of the kernels, which takes no GPU.

Counts of memory instructions say whether a lane reads each value once.
"""

import json
import os
import subprocess
import sys

import pytest

ARCHITECTURES = [80, 90]


@pytest.fixture(scope='module')
def counts(repo):
    pytest.importorskip('triton', minversion='3.3')  # told of divisors so
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', 'tests.ops.triton.assemble'],
        cwd=repo,
        capture_output=True,
        text=True,
        env=dict(os.environ, TRITON_INTERPRET='0'),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize('architecture', ARCHITECTURES)
@pytest.mark.parametrize('dtype', ['fp32', 'bf16', 'fp16'])
@pytest.mark.parametrize('axis', ['c', 'w'])
def test_lip_loads_each_cell_of_a_window_once(counts, architecture, dtype, axis):
    found = counts[f'lip forward {dtype} {axis} sm_{architecture}']
    # x and logit in each of nine cells.
    assert found == dict(ld=2 * 9, st=1, atom=0, red=0)


@pytest.mark.parametrize('architecture', ARCHITECTURES)
@pytest.mark.parametrize('of_logit', [True, False])
def test_lip_backward_loads_each_window_of_a_cell_once(counts, architecture, of_logit):
    found = counts[f'lip backward {of_logit} sm_{architecture}']
    # x for the logit's gradient, and the logit; of up to four windows the
    # gradient and the level, and the mean for the logit's.
    assert found['ld'] == (2 + 4 * 3 if of_logit else 1 + 4 * 2)
    assert found['st'] == 1 + of_logit
    assert found['atom'] == found['red'] == 0


@pytest.mark.parametrize('architecture', ARCHITECTURES)
@pytest.mark.parametrize('samples', [0, 2])
def test_votes_are_added_by_atomics_in_the_backward_pass_alone(counts, architecture, samples):
    forward = counts[f'vote forward {samples} sm_{architecture}']
    backward = counts[f'vote backward {samples} sm_{architecture}']
    assert forward['atom'] == forward['red'] == 0 and forward['st'] > 0
    assert backward['atom'] + backward['red'] > 0 and backward['st'] == 0


@pytest.mark.parametrize('architecture', ARCHITECTURES)
@pytest.mark.parametrize('dtype', ['fp32', 'fp64'])
def test_bins_are_written_once(counts, architecture, dtype):
    assert counts[f'bins quantised {dtype} sm_{architecture}']['st'] == 2
    # A cell and a weight a tap.
    assert counts[f'bins sampled {dtype} sm_{architecture}']['st'] % 2 == 0


@pytest.mark.parametrize('name, loads, stores', [('forward', 18, 3), ('backward', 14, 2)])
def test_channels_last_takes_four_lanes_at_a_time(counts, name, loads, stores):
    every, fours = counts['vectors'][name]
    assert (every['ld'], every['st']) == (loads, stores)
    assert (fours['ld'], fours['st']) == (loads, stores)
