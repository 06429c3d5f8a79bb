"""Tests of tools/benchmarks: equality check, statistics, report, and cases at tiny sizes.

Measured times decide no test.
"""

import json
import runpy
import sys
from functools import partial
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules

CPU = torch.device('cpu')


@pytest.fixture
def bench(repo, monkeypatch):
    """Function that imports a module of tools/benchmarks by name."""
    folder = str(repo / 'tools' / 'benchmarks')
    monkeypatch.syspath_prepend(folder)
    yield import_module
    for name, module in list(sys.modules.items()):
        if (getattr(module, '__file__', None) or '').startswith(folder):
            del sys.modules[name]


def operator(bench, function):
    """Contender builder: a function of one 3 x 4 tensor, forward and backward."""

    def build():
        inputs = [torch.randn(3, 4, requires_grad=True)]
        return bench('operators').prepare(function, inputs, lambda *args: 96)

    return build


def doubling(bench, other, **options):
    contenders = dict(double=operator(bench, lambda x: 2 * x), other=other)
    return bench('case').Case('group', 'doubling', contenders, **options)


# --- equality check


@pytest.mark.parametrize(
    'function, message',
    [
        (lambda x: torch.cat([2 * x[:-1], 2.1 * x[-1:]]), 'output has relative error'),
        (lambda x: 2 * x * float('nan'), 'output has relative error nan'),
        (lambda x: 2 * x[:2], r'output has shape \[2, 4\]'),
        (lambda x: 2 * x.detach() + 0 * x, 'gradient 1 has relative error'),
    ],
    ids=['border', 'nan', 'shape', 'gradient'],
)
def test_refuses_unequal_contenders(bench, function, message):
    measure = bench('measure')
    with pytest.raises(measure.UnequalResult, match=f'doubling: other: {message}'):
        measure.run_case(doubling(bench, operator(bench, function)), CPU, 1, 1e9)


def test_allows_rounding_and_other_layouts(bench):
    measure = bench('measure')
    values = torch.rand(10, 10, dtype=torch.float64) + 0.5
    for dtype, allowed in measure.TOLERANCES.items():
        rounded = values.to(dtype)
        measure.check_equal([rounded, rounded.flatten()], [rounded.clone(), values], 'rounded')
        with pytest.raises(measure.UnequalResult):
            measure.check_equal([(values * (1 + 2 * allowed)).to(dtype)], [rounded], 'wrong')


# --- statistics


def test_contenders_take_turns_with_median_and_quartiles(bench, monkeypatch):
    """The quartiles of 1, 2, 3, 4, 8 are 2 and 4, those of four values lie between them."""
    measure, log = bench('measure'), []
    seconds = dict(a=iter([4, 1, 2, 8, 3]), b=iter([10, 40, 20, 30, 20]))

    class Timer:
        def __init__(self, statement, globals, num_threads):
            self.name = globals['call'].args[0]

        def blocked_autorange(self, min_run_time):
            log.append(self.name)
            return SimpleNamespace(times=[next(seconds[self.name])])

    monkeypatch.setattr(measure, 'Timer', Timer)
    rows = dict(a={}, b={})
    contender = bench('case').Contender
    calls = {name: contender(partial(str, name)) for name in rows}
    measure.time_contenders(calls, rows, CPU, 5)
    assert log == ['a', 'b'] * 5
    assert rows['a'] == dict(median_ms=3000, quartiles_ms=[2000, 4000], blocks=5)
    assert rows['b'] == dict(median_ms=20_000, quartiles_ms=[20_000, 30_000], blocks=5)


def test_ratio_bandwidth_and_memory_of_a_case(bench):
    case = doubling(bench, operator(bench, lambda x: x + x))
    result = bench('measure').run_case(case, CPU, 3, 1e6)
    base, other = result['rows'].values()
    assert base['ratio'] == 1 and other['ratio'] == other['median_ms'] / base['median_ms']
    for row in (base, other):
        assert row['blocks'] >= 3 and row['peak_bytes'] > 0
        low, high = row['quartiles_ms']
        assert 0 < low <= row['median_ms'] <= high
        # 96 bytes need 96 us at 1 MB/s.
        assert row['bandwidth_share'] == pytest.approx(0.096 / row['median_ms'])


def test_peak_memory_excludes_earlier_tensors(bench):
    kept = torch.ones(2**20)

    def run():
        first = kept[: 2**18] + 1  # 1 MiB
        second = first.repeat(3)  # 3 MiB
        del first
        third = torch.ones(2**17)  # 0.5 MiB
        del second, third

    assert bench('measure').torch_peak_bytes(run, CPU) == pytest.approx(2**22, abs=4096)
    peak = bench('measure').python_peak_bytes(lambda: bytearray(2**22), CPU)
    assert peak == pytest.approx(2**22, abs=4096)


def test_memory_between_calls_counts(bench):
    build = operator(bench, lambda x: 2 * x)
    case = doubling(bench, lambda: build()._replace(held_bytes=1000))
    base, other = bench('measure').run_case(case, CPU, 1, 1e9)['rows'].values()
    assert other['peak_bytes'] == base['peak_bytes'] + 1000


@pytest.mark.slow
def test_teacher_finds_as_many_pseudo_boxes_as_boxes(bench):
    register_all_modules()
    models = bench('models')
    config = models.teacher_config(models.detector_config(models.RFCN, 50, 100))
    model = MODELS.build(config)
    model.init_weights()
    data = model.data_preprocessor(models.random_batch(2, (160, 256), num_boxed=1), True)
    boxed, others = data['data_samples']
    assert boxed.get('has_boxes', True) and len(boxed.gt_instances) == models.BOXES_PER_IMAGE
    losses = model.train().loss(data['inputs'], data['data_samples'])
    assert len(others.gt_instances) == models.BOXES_PER_IMAGE
    assert losses['pseudo_loss_cls'] > 0 and losses['loss_cls'] > 0


def test_minimum_bytes_of_operators(bench):
    operators = bench('operators')
    shape, windows = (2, 3, 9, 14), 2 * 3 * 5 * 7
    for backward in (False, True):
        case = operators.lip_case(shape, torch.bfloat16, 'NCHW', True, backward, CPU)
        cells = 2 * 3 * 9 * 14
        expected = 2 * (6 * cells + 2 * windows) if backward else 2 * (2 * cells + windows)
        assert case.contenders['lip2d']().min_bytes == expected
    # One RoI of 7 x 7 cells, a cell per bin: each bin reads its cell of each class.
    maps = torch.randn(1, 2 * 49, 10, 12, requires_grad=True)
    roi = torch.tensor([[0.0, 16, 16, 127, 127]])
    out = operators.ps_roi_vote(maps, roi, 7, 1 / 16, 'pool')
    gradients = torch.autograd.grad(out.sum(), maps)
    ends = 2 * (5 * 4 + 2 * 4)  # RoI and votes, in both passes
    found = operators.vote_min_bytes([maps, roi], out, gradients, True)
    assert found == 49 * 2 * 4 + maps.nbytes + ends


# --- targets and failures

ROWS = {
    'ours': dict(median_ms=10.0, peak_bytes=100, bandwidth_share=0.8),
    'theirs': dict(median_ms=25.0, peak_bytes=150, bandwidth_share=0.2),
    'broken': dict(failure='boom'),
}


@pytest.mark.parametrize(
    'target, measured, met',
    [
        (('ours', 'time', 0.4, 'theirs'), 0.4, True),
        (('ours', 'time', 0.3, 'theirs'), 0.4, False),
        (('ours', 'memory', 1.0, 'theirs'), 2 / 3, True),
        (('ours', 'bandwidth', 0.75), 0.8, True),
        (('theirs', 'bandwidth', 0.75), 0.2, False),
        (('broken', 'time', 2.0, 'ours'), None, None),
        (('broken', 'bandwidth', 0.75), None, None),
        (('ours', 'time', 2.0, 'broken'), None, None),
    ],
)
def test_targets(bench, target, measured, met):
    judged = bench('case').Target(*target).judge(ROWS)
    assert judged['met'] is met
    assert judged['measured'] == (measured if measured is None else pytest.approx(measured))


def test_table_lists_failures(bench):
    def fail():
        raise RuntimeError('no kernel for a | b\nstack')

    targets = [bench('case').Target('other', 'time', 0.5, 'double')]
    for build in (fail, lambda: bench('case').Contender(fail)):
        case = doubling(bench, build, targets=targets)
        result = bench('measure').run_case(case, CPU, 2, 1e9)
        assert 'median_ms' in result['rows']['double']
        row = bench('report').case_lines(result)[-1]
        assert row.startswith('| other | failed: RuntimeError: no kernel for a \\| b |')
        assert row.endswith('at most 0.5x the time of double: not measured |')


# --- command

FAST = ['NCHW, forward', 'lip2d over', 'vote: pool', 'NCHW, inference', 'peaked', 'sample']


@pytest.mark.parametrize('only', [FAST, pytest.param([], marks=pytest.mark.slow)])
def test_cases_run_on_a_cpu(tool, tmp_path, only):
    options = ['--only', *only] if only else []
    done = tool('tools/benchmarks', '--tiny', '--turns', 1, '--out', tmp_path, *options)
    stem = 'cpu-part' if only else 'cpu'
    report = json.loads((tmp_path / f'{stem}.json').read_text())
    table = (tmp_path / f'{stem}.md').read_text()
    assert len(report['results']) >= len(only) and not report['remaining']
    assert report['bandwidth'] > 0
    for result in report['results']:
        for name, row in result['rows'].items():
            if not name.startswith('torchvision'):
                assert row['median_ms'] > 0 and row['peak_bytes'] > 0, (result['title'], name, row)
        if not result['point']:
            assert f'**{result["title"]}**' in table and f'**{result["title"]}**' in done.stdout
    plots = list(tmp_path.glob('*.png'))
    assert len(plots) == len({r['point']['series'] for r in report['results'] if r['point']}) > 1
    for plot in plots:
        assert f']({plot.name})' in table
        assert plot.read_bytes().startswith(b'\x89PNG')


def run_command(repo, monkeypatch, *arguments):
    """Run the command in this process."""
    monkeypatch.setattr(sys, 'argv', ['tools/benchmarks', '--tiny', *map(str, arguments)])
    runpy.run_path(str(repo / 'tools' / 'benchmarks'), run_name='__main__')


def test_keeps_results_of_an_aborted_run(bench, repo, monkeypatch, tmp_path):
    measure, done = bench('measure'), []
    original = measure.run_case

    def run_case(*args):
        if done:
            raise measure.UnequalResult('second case')
        done.append(args)
        return original(*args)

    monkeypatch.setattr(measure, 'run_case', run_case)
    with pytest.raises(SystemExit, match='unequal result: second case'):
        run_command(repo, monkeypatch, '--only', 'NCHW, forward', '--out', tmp_path)
    report = json.loads((tmp_path / 'cpu-part.json').read_text())
    assert len(report['results']) == 1 and len(report['remaining']) == 3
    assert 'cases of this run without a result: 3' in (tmp_path / 'cpu-part.md').read_text()


@pytest.mark.parametrize(
    'arguments, message',
    [(['--turns', '0'], '--turns'), (['--device', 'abacus'], 'abacus'), (['--only', 'xyz'], 'xyz')],
)
def test_refuses_wrong_arguments(bench, repo, monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        run_command(repo, monkeypatch, *arguments)
    assert error.value.code and message in f'{error.value.code} {capsys.readouterr().err}'


@pytest.mark.gpu
def test_operators_on_a_gpu(tool, tmp_path):
    names = ['lip2d', 'ps_roi_vote']
    tool('tools/benchmarks', '--tiny', '--device', 'cuda', '--only', *names, '--out', tmp_path)
    for result in json.loads((tmp_path / 'cuda-part.json').read_text())['results']:
        for name, row in result['rows'].items():
            assert row.get('peak_bytes') or name.startswith('torchvision'), (name, row)
