"""Memory instructions of the compiled kernels; compiling needs no GPU."""

import json

import pytest

ARCHITECTURES = [80, 90]


@pytest.fixture(scope='module')
def counts(tool):
    pytest.importorskip('triton', minversion='3.3')  # format of the divisibility hints
    return json.loads(tool('-m', 'tests.ops.triton.assemble', TRITON_INTERPRET='0').stdout)


@pytest.mark.parametrize('architecture', ARCHITECTURES)
@pytest.mark.parametrize('dtype', ['fp32', 'bf16', 'fp16'])
@pytest.mark.parametrize('axis', ['c', 'w'])
def test_lip_loads_each_cell_of_a_window_once(counts, architecture, dtype, axis):
    found = counts[f'lip forward {dtype} {axis} sm_{architecture}']
    # x and logit in each of nine cells.
    assert found == dict(ld=2 * 9, st=1, atom=0, red=0)


@pytest.mark.parametrize('architecture', ARCHITECTURES)
@pytest.mark.parametrize('grad_logit', [True, False])
def test_lip_backward_loads_each_window_of_a_cell_once(counts, architecture, grad_logit):
    found = counts[f'lip backward {grad_logit} sm_{architecture}']
    # The logit, and of up to four windows the gradient and the log of the sum. The
    # logit's gradient also needs x and the mean of each window.
    assert found['ld'] == (2 + 4 * 3 if grad_logit else 1 + 4 * 2)
    assert found['st'] == 1 + grad_logit
    assert found['atom'] == found['red'] == 0


@pytest.mark.parametrize('architecture', ARCHITECTURES)
@pytest.mark.parametrize('samples', [0, 2])
def test_only_the_backward_pass_of_votes_uses_atomics(counts, architecture, samples):
    forward = counts[f'vote forward {samples} sm_{architecture}']
    backward = counts[f'vote backward {samples} sm_{architecture}']
    assert forward['atom'] == forward['red'] == 0 and forward['st'] > 0
    assert backward['atom'] + backward['red'] > 0 and backward['st'] == 0


@pytest.mark.parametrize('architecture', ARCHITECTURES)
@pytest.mark.parametrize('dtype', ['fp32', 'fp64'])
def test_bins_are_written_once(counts, architecture, dtype):
    assert counts[f'bins quantised {dtype} sm_{architecture}']['st'] == 2
    # A cell and a weight for each tap.
    assert counts[f'bins sampled {dtype} sm_{architecture}']['st'] % 2 == 0


@pytest.mark.parametrize('name, loads, stores', [('forward', 18, 3), ('backward', 14, 2)])
def test_channels_last_reads_and_writes_vectors_of_four(counts, name, loads, stores):
    every, fours = counts['vectors'][name]
    assert (every['ld'], every['st']) == (loads, stores)
    assert (fours['ld'], fours['st']) == (loads, stores)
