"""The benchmarks: what they count, what they refuse, and what they tell."""

import json
import runpy
import sys
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

CPU = torch.device('cpu')


@pytest.fixture
def bench(repo, monkeypatch):
    """The modules of tools/benchmarks, by name."""
    folder = repo / 'tools' / 'benchmarks'
    monkeypatch.syspath_prepend(str(folder))
    yield lambda name: import_module(name)
    for name, module in list(sys.modules.items()):
        file = getattr(module, '__file__', None) or ''
        if file.startswith(str(folder)):
            sys.modules.pop(name)


# ---- times


def test_median_and_quartiles_of_few_values(bench):
    """By hand: quartiles lie a quarter and three quarters of the way from the
    smallest to the largest place, with straight lines between places."""
    times = bench('timing').Times([4.0, 1.0, 2.0, 8.0, 3.0], 1)
    assert (times.median, times.quartiles) == (3.0, (2.0, 4.0))
    times = bench('timing').Times([10.0, 40.0, 20.0, 30.0], 1)
    assert times.median == 25.0 and times.quartiles == (17.5, 32.5)
    assert bench('timing').Times([7.0], 1).quartiles == (7.0, 7.0)


def test_contenders_take_turns_and_warm_up(bench, monkeypatch):
    timing, log = bench('timing'), []
    clock = iter([0.5, 0.5, 0.5] * 2 + [1.0, 10.0, 3.0, 30.0, 2.0, 20.0])

    def stretch(function, calls, device):
        function()
        log[-1] += (calls,)
        return next(clock)

    monkeypatch.setattr(timing, '_stretch', stretch)
    found = timing.measure({name: lambda name=name: log.append((name,)) for name in 'ab'}, CPU, 3)
    # 5 ms a stretch, of calls of 0.5 ms.
    assert (
        log
        == [('a', 1), ('a', 1), ('a', 10), ('b', 1), ('b', 1), ('b', 10)]
        + [('a', 10), ('b', 10)] * 3
    )
    assert found['a'].values == [1.0, 3.0, 2.0] and found['a'].calls == 10
    assert found['a'].median == 2.0 and found['b'].median == 20.0


def test_slow_calls_are_warmed_up_once(bench, monkeypatch):
    timing, calls = bench('timing'), []
    monkeypatch.setattr(
        timing, '_stretch', lambda function, count, device: calls.append(count) or 2000.0
    )
    timing.measure({'slow': None}, CPU, 4)
    assert calls == [1] * 5


def test_a_contender_that_fails_later_is_left_out(bench):
    def fails_at(call):
        def function():
            function.calls += 1
            if function.calls == call:
                raise RuntimeError('boom\nand a stack')

        function.calls = 0
        return function

    timing = bench('timing')
    found = timing.measure(
        {'first': fails_at(1), 'later': fails_at(2), 'good': lambda: None}, CPU, 3
    )
    assert found['first'] == found['later'] == timing.Failure('RuntimeError: boom')
    assert len(found['good'].values) == 3


def test_running_out_of_memory_is_told_as_that(bench):
    reason = bench('timing').failure(torch.OutOfMemoryError('Tried to allocate 2 GiB')).reason
    assert reason == 'out of memory: Tried to allocate 2 GiB'


# ---- results


class Doubled(torch.autograd.Function):
    """Twice x; the gradient is ``factor`` times what it should be."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.factor * grad, None


def doubling(bench, other, **options):
    """A case of two contenders that should double their input."""
    module = bench('operator_case')
    return module.OperatorCase(
        'doubling',
        dict(double=module.Contender(lambda x: 2 * x), other=module.Contender(other)),
        lambda: [torch.randn(3, 4)],
        **options,
    )


@pytest.mark.parametrize('backward', [False, True])
def test_equal_contenders_are_timed(bench, backward):
    case = doubling(bench, lambda x: x + x, backward=backward)
    rows = case.run(bench('contest').Setting(CPU, 3))['rows']
    assert list(rows) == ['double', 'other']
    for row in rows.values():
        assert row['runs'] == 3 and row['median_ms'] > 0
        low, high = row['quartiles_ms']
        assert low <= row['median_ms'] <= high
    assert rows['double']['times_the_first'] == 1
    assert rows['other']['times_the_first'] == pytest.approx(
        rows['other']['median_ms'] / rows['double']['median_ms']
    )


@pytest.mark.parametrize(
    'other, what',
    [
        (lambda x: 2.01 * x, 'output differs by'),
        (lambda x: torch.cat([2 * x[:-1], 2.1 * x[-1:]]), 'output differs by'),
        (lambda x: 2 * x * float('nan'), 'output differs by nan'),
        (lambda x: 2 * x[:2], 'output has shape'),
        (lambda x: Doubled.apply(x, 1.01), 'gradient 1 differs by'),
        (lambda x: 2 * x.detach() + 0 * x, 'gradient 1 differs by'),
    ],
    ids=['all', 'border', 'nan', 'shape', 'gradient', 'no gradient'],
)
@pytest.mark.parametrize('backward', [False, True])
def test_a_contender_that_computes_something_else_is_refused(bench, other, what, backward):
    case = doubling(bench, other, backward=backward)
    with pytest.raises(bench('equal').WrongResult, match=f'doubling: other against double: {what}'):
        case.run(bench('contest').Setting(CPU, 2))


def test_gradients_may_be_laid_out_in_another_way(bench):
    module = bench('operator_case')
    case = module.OperatorCase(
        'doubling',
        dict(
            double=module.Contender(lambda x: 2 * x),
            flat=module.Contender(lambda x: 2 * x.view(3, 4), lambda inputs: [inputs[0].flatten()]),
        ),
        lambda: [torch.randn(3, 4)],
    )
    assert 'failure' not in case.run(bench('contest').Setting(CPU, 2))['rows']['flat']


def test_each_dtype_has_room_for_its_rounding_only(bench):
    equal = bench('equal')
    values = torch.rand(1000, dtype=torch.float64) + 0.5
    for dtype, allowed in equal.TOLERANCES.items():
        right, wrong = values.to(dtype), (values * (1 + 2 * allowed)).to(dtype)
        if dtype != torch.float64:
            equal.check_equal([right], [values.float()], 'rounded')
        with pytest.raises(equal.WrongResult):
            equal.check_equal([wrong], [right], 'wrong')


def test_inputs_that_fit_into_the_cache_of_a_gpu_take_turns(bench, monkeypatch):
    monkeypatch.setattr(
        torch.cuda, 'get_device_properties', lambda device: SimpleNamespace(L2_cache_size=1000)
    )
    case = doubling(bench, lambda x: x)  # 48 bytes
    sets = case._input_sets(torch.device('cuda'))
    assert 4 * 1000 <= 48 * len(sets) < 4 * 1000 + 48
    assert len({one[0].data_ptr() for one in sets}) == len(sets)
    assert len(case._input_sets(CPU)) == 1

    seen = []
    module = bench('operator_case')
    call = module._in_turns(
        lambda x: seen.append(x) or 2 * x, sets[:3], torch.empty(3, 4), backward=False
    )
    for _ in range(6):
        call()
    assert [id(x) for x in seen] == [id(one[0]) for one in sets[:3]] * 2


# ---- what has to move, and what is taken


@pytest.mark.parametrize('gated', [False, True])
@pytest.mark.parametrize(
    'dtypes', [(torch.float32, torch.float32), (torch.bfloat16, torch.float32)]
)
@pytest.mark.parametrize('channels_last', [False, True])
def test_bytes_that_lip_has_to_move(bench, dtypes, channels_last, gated):
    cases = bench('lip_cases')
    layout = 'channels-last' if channels_last else 'NCHW'
    case = cases.case((2, 3, 9, 14), dtypes, layout, True, CPU, (), gated)
    inputs = bench('equal').leaves(case.make_inputs(), 2)
    found = bench('equal').output_and_gradients(case.contenders[cases.POOLINGS].function, inputs)
    traffic = bench('limit').lip_traffic(inputs, found[0], found[1:])
    x, logit = (one.itemsize for one in dtypes)
    cells, windows = 2 * 3 * 9 * 14, 2 * 3 * 5 * 7
    assert traffic.forward == cells * (x + logit) + windows * x
    assert traffic.backward == cells * (x + logit) * 2 + windows * x
    assert traffic.once == cells * (x + logit) * 2 + windows * x * 2
    assert traffic.both == traffic.forward + traffic.backward


def test_bytes_that_a_vote_has_to_move(bench):
    """Cells that some bin reads, counted by a loop over RoIs and bins."""
    cases = bench('vote_cases')
    work = cases.Work(rois=3, classes=2, batch=2, size=(20, 30))
    torch.manual_seed(0)
    maps, rois = cases.make_inputs(work, CPU)
    rois[:, 1:] = rois[:, 1:].round()  # so that none lies between two cells
    inputs = bench('equal').leaves([maps, rois], 1)
    found = bench('equal').output_and_gradients(
        cases.contenders('pool', CPU)[cases.PLAIN].function, inputs
    )
    read = set()
    for image, *box in rois.double().tolist():
        start = [side / 16 for side in box[:2]]
        size = [(box[2 + i] + 1) / 16 - start[i] for i in range(2)]
        for row in range(7):
            for column in range(7):
                x, y = (
                    range(
                        max(0, int((i * size[axis] / 7 + start[axis]) // 1)),
                        min(
                            work.size[1 - axis],
                            -int(-((i + 1) * size[axis] / 7 + start[axis]) // 1),
                        ),
                    )
                    for axis, i in ((0, column), (1, row))
                )
                read |= {(image, row, column, i, j) for i in y for j in x}
    traffic = bench('limit').vote_traffic(inputs, found[0], found[1:])
    ends = 3 * 5 * 4 + 3 * 2 * 4  # RoIs, and votes or their gradient
    whole = 2 * 2 * 49 * 20 * 30 * 4
    assert traffic.forward == len(read) * 2 * 4 + ends
    assert traffic.backward == whole + ends
    assert traffic.once == len(read) * 2 * 4 + whole + ends + 3 * 2 * 4


def test_the_share_of_the_limit(bench):
    """Of bytes moved in twice the time that the limit needs: a half."""
    module, limit = bench('operator_case'), bench('limit')
    setting = bench('contest').Setting(CPU, 1, bytes_per_second=1e6)
    case = doubling(bench, None)
    row = dict(median_ms=2 * 10 / 1e6 * 1e3)
    found = case._share(row, limit.Traffic(4, 6, 7), setting)
    assert found['limit_bytes'] == 10
    assert found['limit_share'] == pytest.approx(0.5)
    assert found['limit_share_once'] == pytest.approx(0.35)
    assert (
        module.OperatorCase._share(case, dict(failure='boom'), limit.Traffic(4, 6, 7), setting)
        == {}
    )


def test_a_copy_is_read_and_written(bench, monkeypatch):
    limit = bench('limit')
    monkeypatch.setattr(
        limit, 'measure', lambda calls, device, runs: {'copy': SimpleNamespace(median=4.0)}
    )  # ms
    assert limit.copy_bandwidth(CPU, size=10**6) == pytest.approx(5e8)


def test_peak_memory_beyond_what_was_there(bench):
    kept = torch.ones(2**20)

    def run():
        first = kept[: 2**18] + 1  # 1 MiB
        second = first.repeat(3)  # and 3
        del first
        third = torch.ones(2**17)  # 3.5 in all
        del second, third

    assert bench('peak').peak_bytes(run, CPU) == pytest.approx(4 * 2**20, abs=4096)


# ---- targets

ROWS = {
    'ours': dict(median_ms=10.0, quartiles_ms=(8.0, 12.0), peak_bytes=100, limit_share=0.8),
    'theirs': dict(median_ms=25.0, quartiles_ms=(24.0, 26.0), peak_bytes=150, limit_share=0.2),
    'broken': dict(failure='boom'),
}


@pytest.mark.parametrize(
    'target, found, met',
    [
        (('theirs', 'at least', 2.4, 'ours'), 2.5, True),
        (('theirs', 'at least', 2.5, 'ours'), 2.5, True),
        (('theirs', 'at least', 2.6, 'ours'), 2.5, False),
        (('ours', 'at most', 0.5, 'theirs'), 0.4, True),
        (('ours', 'at most', 0.4, 'theirs'), 0.4, True),
        (('ours', 'at most', 0.3, 'theirs'), 0.4, False),
        (('ours', 'below', 1.0, 'theirs', 'peak memory'), 2 / 3, True),
        (('theirs', 'below', 1.0, 'ours', 'peak memory'), 1.5, False),
        (('ours', 'below', 1.0, 'ours', 'peak memory'), 1, False),
        (('ours', 'at least', 0.75, None, 'of the limit'), 0.8, True),
        (('theirs', 'at least', 0.75, None, 'of the limit'), 0.2, False),
        (('broken', 'at least', 2.0, 'ours'), None, None),
        (('theirs', 'at least', 2.0, 'broken'), None, None),
        (('absent', 'at least', 2.0, 'ours'), None, None),
        (('broken', 'at least', 0.75, None, 'of the limit'), None, None),
    ],
)
def test_targets(bench, target, found, met):
    target = bench('targets').Target(*target)
    judged = target.judge(ROWS)
    assert judged['met'] is met
    assert judged['found'] == (found if found is None else pytest.approx(found))
    told = bench('table').verdict(judged)
    assert told.startswith(target.text())
    assert told.endswith({True: ', met', False: ', **not met**', None: ': not measured'}[met])


def test_a_verdict_that_the_quartiles_do_not_carry_says_so(bench):
    """They allow 24 / 12 = 2 to 26 / 8 = 3.25 times."""
    targets, table = bench('targets'), bench('table')
    for least, sure in ((1.9, True), (2.1, False), (3.2, False), (3.3, True)):
        judged = targets.Target('theirs', 'at least', least, 'ours').judge(ROWS)
        assert judged['between'] == (2.0, 3.25)
        assert judged['sure'] is sure
        assert ('2x to 3.25x' in table.verdict(judged)) is not sure


# ---- the report


def report_of(results, growth=(), **surroundings):
    return dict(
        surroundings=dict(dict(device='a device', cores=2, torchvision='0.1'), **surroundings),
        clocks=dict(
            before=dict(mhz=['2000'], load=[0.1, 0.2, 0.3]),
            after=dict(mhz=['2000'], load=[0.9, 0.2, 0.3]),
        ),
        cores_of_others=0.05,
        copy_bytes_per_second=2e9,
        seconds=3.0,
        command='python it',
        to_come=[],
        group_seconds=dict(group=3.0),
        results=dict(group=results),
        growth=list(growth),
    )


def test_a_case_that_fails_is_told_in_the_table(bench, tmp_path):
    def fail(x):
        raise RuntimeError('no kernel for a | b\nstack')

    target = bench('targets').Target('other', 'at least', 2.0, 'double')
    case = doubling(bench, fail, targets=(target,))
    result = case.run(bench('contest').Setting(CPU, 2))
    assert 'median_ms' in result['rows']['double']
    bench('table').write_markdown(report_of([result]), tmp_path / 'it.md', [])
    (line,) = [
        line for line in (tmp_path / 'it.md').read_text().splitlines() if line.startswith('| other')
    ]
    assert 'failed: RuntimeError: no kernel for a \\| b' in line
    assert 'at least 2x the time of double: not measured' in line
    assert '0 met, 0 not met, 1 not measured' in (tmp_path / 'it.md').read_text()


def test_a_model_that_cannot_be_built_is_told(bench):
    contest = bench('contest')

    def cannot():
        raise KeyError('no such model')

    case = contest.StepCase('steps', dict(good=lambda: lambda: None, bad=cannot))
    rows = case.run(contest.Setting(CPU, 2))['rows']
    assert rows['bad'] == dict(failure="KeyError: 'no such model'")
    assert rows['good']['runs'] == 2


def test_a_step_that_counts_wrongly_stops_the_suite(bench):
    contest, wrong = bench('contest'), bench('equal').WrongResult

    def build():
        raise wrong('counts 3')

    with pytest.raises(wrong, match='counts 3'):
        contest.StepCase('steps', dict(bad=build)).run(contest.Setting(CPU, 2))


def test_slow_steps_have_fewer_runs(bench):
    contest = bench('contest')
    case = contest.StepCase('steps', dict(it=lambda: lambda: None), most_runs=2)
    for runs, expected in ((5, 2), (1, 1)):
        rows = case.run(contest.Setting(CPU, runs))['rows']
        assert rows['it']['runs'] == expected


def test_the_report_says_what_is_absent_and_what_disturbed(bench, tmp_path):
    table = bench('table')

    def text(report):
        table.write_markdown(report, tmp_path / 'it.md', [])
        return (tmp_path / 'it.md').read_text()

    assert 'without rows of torchvision' not in text(report_of([]))
    assert 'without rows of torchvision, which does not import (x)' in text(
        report_of([], torchvision='does not import (x)')
    )
    assert 'not quiet' not in text(report_of([]))
    busy = report_of([])
    busy['cores_of_others'] = 1.5
    assert ('cores busy with other work meanwhile: 1.50: **the machine was not quiet**') in text(
        busy
    )
    assert 'not measured yet' not in text(report_of([]))
    assert 'not measured yet**: vote, growth' in text(
        dict(report_of([]), to_come=['vote', 'growth'])
    )


def test_the_share_of_the_limit_is_told(bench):
    result = dict(
        work='it',
        targets=[],
        rows=dict(
            one=dict(
                median_ms=1234.5,
                quartiles_ms=[0.01234, 2.0],
                times_the_first=1.0,
                limit_share=0.756,
                peak_bytes=3 * 2**19,
            )
        ),
    )
    line = bench('table').case_lines(result)[-1]
    assert line.split(' | ')[1:5] == ['1234 [0.0123, 2] ms', '1x', '1.5 MiB', '76 %']


# ---- growth


def test_a_curve_ends_where_it_fails_or_takes_too_long(bench, monkeypatch):
    growth, contest = bench('growth_series'), bench('contest')
    built = []

    def quick(size):
        built.append(size)
        return lambda: None

    def fixed(size):  # a cost that does not grow is no reason to stop
        return lambda: None

    def fails(size):
        if size > 10:
            raise RuntimeError('too large')
        return lambda: None

    slow = dict(point=0)

    def measure(calls, device, runs):
        slow['point'] += 1
        times = bench('timing').Times
        known = dict(slow=1000.0 * 10 ** slow['point'], fixed=10_000.0)
        return {name: times([known.get(name, 1.0)] * runs, 1) for name in calls}

    monkeypatch.setattr(growth, 'measure', measure)
    series = growth.TimeSeries(
        'key',
        'title',
        'sizes',
        [10, 100, 1000],
        dict(quick=quick, fails=fails, slow=fixed, fixed=fixed),
        seconds=400.0,
    )
    (found,) = series.run(contest.Setting(CPU, 2))
    curves = found['curves']
    assert [point['x'] for point in curves['quick']['points']] == [10, 100, 1000]
    assert curves['fails']['notes'] == ['at 100: RuntimeError: too large']
    # 10 s at 10; at 100 three calls of 100 s are foreseen, at 1,000 of 1,000.
    assert [point['x'] for point in curves['slow']['points']] == [10, 100]
    assert curves['slow']['notes'] == [
        'left out from 1,000 on, where a call would take about 1000.0 s'
    ]
    # The first two points tell that the cost is fixed.
    assert [point['x'] for point in curves['fixed']['points']] == [10, 100, 1000]
    assert built == [10, 100, 1000]


def test_what_hardly_grows_is_not_taken_to(bench, monkeypatch):
    """Of one point alone, all are taken to grow but those named."""
    growth, contest = bench('growth_series'), bench('contest')
    monkeypatch.setattr(
        growth,
        'measure',
        lambda calls, device, runs: {
            name: bench('timing').Times([1000.0] * runs, 1) for name in calls
        },
    )
    series = growth.TimeSeries(
        'key',
        'title',
        'sizes',
        [1, 100],
        dict.fromkeys(('one', 'other'), lambda size: lambda: None),
        fixed=['other'],
        seconds=10.0,
    )
    (found,) = series.run(contest.Setting(CPU, 2))
    assert [len(curve['points']) for curve in found['curves'].values()] == [1, 2]


def test_what_is_left_out_is_in_the_report(bench, tmp_path):
    table, plots = bench('table'), bench('plots')
    points = [
        dict(x=10, median=1.5, quartiles=[1.0, 2.0]),
        dict(x=1000, median=20.0, quartiles=[20.0, 25.0]),
    ]
    series = dict(
        key='key',
        title='Growing',
        over='sizes',
        unit='ms',
        curves=dict(
            one=dict(points=points, notes=[]),
            other=dict(points=points[:1], notes=['left out']),
            none=dict(points=[], notes=['failed']),
        ),
    )
    assert table.series_lines(series) == [
        '**Growing**, ms',
        '',
        '| sizes | one | other | none |',
        '| --- | --- | --- | --- |',
        '| 10 | 1.5 | 1.5 |  |',
        '| 1,000 | 20 |  |  |',
        '\nother: left out',
        '\nnone: failed',
    ]
    for curves in (series['curves'], dict(none=series['curves']['none'])):
        plots.draw(dict(series, curves=curves), tmp_path / 'it.png')
        assert (tmp_path / 'it.png').read_bytes().startswith(b'\x89PNG')


def test_annotations_are_what_the_data_sets_take(bench, tmp_path):
    data = bench('growth_data')
    data.write_annotations(tmp_path, 5)
    content = json.loads((tmp_path / 'annotations.json').read_text())
    assert [image['id'] for image in content['images']] == list(range(5))
    assert len(content['annotations']) == 5 * data.BOXES
    assert len({one['id'] for one in content['annotations']}) == 5 * data.BOXES
    for one in content['annotations']:
        x, y, width, height = one['bbox']
        assert 0 <= x and x + width <= data.SIDE and width >= 1
        assert 0 <= y and y + height <= data.SIDE and height >= 1


def test_a_data_set_that_does_not_load_is_told(bench, tmp_path):
    data = bench('growth_data')
    data.write_annotations(tmp_path, 3)  # too few for 10 percent
    found = data._probe('partial', tmp_path)
    assert '10 % of 3 images' in found['failure']
    curves = {key: {'it': dict(points=[], notes=[])} for key in data.QUANTITIES}
    data._add(curves, 'it', 3, found)
    for one in curves.values():
        assert one['it']['notes'] == [f'at 3: {found["failure"]}']


# ---- the machine


def test_a_package_that_does_not_import_is_told(bench, tmp_path, monkeypatch):
    (tmp_path / 'broken_package.py').write_text(
        'raise RuntimeError("built for another torch\\nstack")'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert bench('machine').version_of('broken_package') == (
        'does not import (RuntimeError: built for another torch)'
    )
    assert bench('machine').version_of('torch') == torch.__version__


def test_clocks_of_a_gpu(bench, tmp_path, monkeypatch):
    """The program is asked for the GPU that torch sees under that number."""
    machine = bench('machine')
    program = tmp_path / 'nvidia-smi'
    program.write_text('#!/bin/sh\necho "$@" >&2\necho "1980 MHz, 3201 MHz, 40, 120.5 W"\n')
    program.chmod(0o755)
    device = torch.device('cuda', 1)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    assert machine.clocks(device) == {
        'clocks.sm': '1980 MHz',
        'clocks.mem': '3201 MHz',
        'temperature.gpu': '40',
        'power.draw': '120.5 W',
    }
    program.write_text('#!/bin/sh\necho "$@"')
    assert '--id=1' in machine._nvidia_smi(device, 'it')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '5,7')
    assert '--id=7' in machine._nvidia_smi(device, 'it')
    program.unlink()
    monkeypatch.setenv('PATH', str(tmp_path))
    assert 'nvidia-smi does not run' in machine.clocks(device)['nvidia-smi']


def test_work_of_others(bench, monkeypatch):
    """Of 90 ticks of all cores that were neither idle nor waiting for disks,
    this process and its children took 0.4 seconds."""
    machine = bench('machine')
    monkeypatch.setattr(
        machine, '_lines', lambda path: ['cpu 30 5 40 1900 200 5 0 10 9 9', 'cpu0 1 1']
    )
    monkeypatch.setattr(machine.os, 'sysconf', lambda name: 100)
    monkeypatch.setattr(machine.os, 'times', lambda: (0.1, 0.1, 0.1, 0.1, 77.0))
    assert machine.seconds_of_others() == pytest.approx(0.9 - 0.4)
    monkeypatch.setattr(machine, '_lines', lambda path: [])
    assert machine.seconds_of_others() != machine.seconds_of_others()  # NaN


@pytest.mark.parametrize(
    'name, stem',
    [('NVIDIA H200', 'nvidia-h200'), ('AMD EPYC 9B14 / 2', 'amd-epyc-9b14-2'), ('///', 'device')],
)
def test_names_of_files(bench, name, stem):
    assert bench('machine').file_stem(name) == stem


# ---- the whole

PATCHED = """
import runpy, sys
sys.path.insert(0, 'tools/benchmarks')
import vote_cases
right = vote_cases._by_bins
vote_cases._by_bins = lambda *inputs, **mode: right(*inputs, **mode) * 1.1
sys.argv = ['it', '--toy', '--only', 'lip', 'vote', '--threads', '1', '--out',
            sys.argv[1]]
runpy.run_path('tools/benchmarks', run_name='__main__')
"""


def test_a_wrong_result_stops_all_with_one_line(tool, tmp_path):
    done = tool('-c', PATCHED, tmp_path, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(
        'wrong result: align, 5 RoIs, 3 classes, 2 x 9 x 12, forward + '
        "backward: ps_roi_align on mmcv, mean against ps_roi_vote, the head's "
        'layout: output differs by'
    )
    # What was measured before is there.
    (table,) = tmp_path.glob('*.md')
    assert 'not measured yet**: vote' in table.read_text()
    assert 'channels-last, forward + backward' in table.read_text()


@pytest.fixture(scope='module')
def toy(tool, tmp_path_factory):
    """Folder of a run of everything at toy sizes, and what it printed."""
    out = tmp_path_factory.mktemp('bench')
    done = tool('tools/benchmarks', '--toy', '--threads', '1', '--out', out)
    return out, done.stdout


def test_everything_is_measured(toy, repo):
    out, printed = toy
    found = json.loads(next(out.glob('*-toy.json')).read_text())
    assert set(found['results']) == {'lip', 'vote', 'classifiers', 'detectors', 'wsol'}
    for results in found['results'].values():
        assert results
        for result in results:
            for name, row in result['rows'].items():
                assert row['median_ms'] > 0, (result['work'], name)
    assert {series['key'] for series in found['growth']} >= {
        'lip',
        'lip-resnet',
        'heads-rois',
        'heads-classes',
        'heads-side',
        'data-start',
        'data-index',
        'data-sample',
        'data-state',
    }
    for series in found['growth']:
        for name, curve in series['curves'].items():
            assert curve['points'] and not curve['notes'], name
    assert found['surroundings']['torch'] == torch.__version__
    assert found['surroundings']['threads'] == 1
    assert found['copy_bytes_per_second'] > 0
    assert set(found['clocks']) == {'before', 'after'}
    assert found['cores_of_others'] > -1
    assert found['to_come'] == []
    assert set(found['group_seconds']) == {*found['results'], 'growth'}
    assert sum(found['group_seconds'].values()) <= found['seconds']


def test_the_table_holds_it_all(toy):
    out, printed = toy
    found = json.loads(next(out.glob('*-toy.json')).read_text())
    table = next(out.glob('*-toy.md')).read_text()
    for results in found['results'].values():
        for result in results:
            assert f'**{result["work"]}**' in table
            assert f'**{result["work"]}**' in printed
    for series in found['growth']:
        (plot,) = out.glob(f'*-toy-{series["key"]}.png')
        assert f']({plot.name})' in table
    met = [
        target['met']
        for results in found['results'].values()
        for result in results
        for target in result['targets']
    ]
    assert f'{met.count(True)} met, {met.count(False)} not met' in table


def test_medians_of_a_gpus_events(bench):
    """The arithmetic of a stretch, with events that tell a known time."""
    timing, events = bench('timing'), []

    class Event(SimpleNamespace):
        def __init__(self, enable_timing):
            super().__init__()
            assert enable_timing

        def record(self):
            events.append('record')

        def synchronize(self):
            events.append('wait')

        def elapsed_time(self, end):
            return 60.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, 'Event', Event)
        patch.setattr(torch.cuda, 'synchronize', lambda device: None)
        found = timing._stretch(lambda: events.append('call'), 3, torch.device('cuda'))
    assert found == 20.0
    assert events == ['record', 'call', 'call', 'call', 'record', 'wait']


def test_wsol_alone(tool, tmp_path):
    printed = tool(
        'tools/benchmarks/wsol.py',
        '--cells',
        '7',
        '--images',
        '1',
        '--interval',
        '0.1',
        '--runs',
        '2',
        '--out',
        tmp_path / 'wsol.json',
    ).stdout
    found = json.loads((tmp_path / 'wsol.json').read_text())
    assert [list(result['rows']) for result in found['results']['wsol']] == [
        ['MaxBoxAcc', 'direct loop']
    ] * 2
    assert 'peaked' in printed


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--runs', '0'], '--runs must be at least 1'),
        (['--device', 'abacus'], '--device must be cpu or cuda'),
        (['--device', 'meta'], '--device must be cpu or cuda'),
        (['--only', 'speed'], 'invalid choice'),
    ],
)
def test_arguments(bench, repo, monkeypatch, capsys, arguments, message):
    bench('quiet')  # what is imported from here on is found
    monkeypatch.setattr(sys, 'argv', ['it', *arguments])
    main = runpy.run_path(str(repo / 'tools/benchmarks/__main__.py'))
    with pytest.raises(SystemExit, match='2'):
        main['parse_args']()
    assert message in capsys.readouterr().err


@pytest.mark.gpu
def test_operators_on_a_gpu(tool, tmp_path):
    tool(
        'tools/benchmarks', '--toy', '--device', 'cuda', '--only', 'lip', 'vote', '--out', tmp_path
    )
    found = json.loads(next(tmp_path.glob('*.json')).read_text())
    assert 'nvidia-smi' not in found['clocks']['before']
    for results in found['results'].values():
        for result in results:
            for row in result['rows'].values():
                assert row['peak_bytes'] > 0 and row['limit_bytes'] > 0
