"""dry_run.py: what it measures, and what it reckons from that."""

import json
import shutil
import sys
from itertools import repeat
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop


@pytest.fixture(autouse=True)
def tools(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / 'tools' / 'analysis_tools'))


class Validations:
    """Stands for a loop of validation."""

    def __init__(self):
        self.count = 0

    def run(self):
        self.count += 1


def loop_of(kind, **options):
    """mmengine's own loop, of steps that do nothing."""
    loop = kind.__new__(kind)
    loop._runner = SimpleNamespace(
        val_loop=Validations(),
        call_hook=lambda *args, **kwargs: None,
        model=torch.nn.Identity(),
        visualizer=SimpleNamespace(),
    )
    loop.dataloader = SimpleNamespace(dataset=SimpleNamespace(metainfo={}))
    loaded = [dict()] * 3

    class Loader(list):
        dataset = SimpleNamespace(metainfo={})

    kind.__init__(loop, loop._runner, Loader(loaded), **options)
    return loop


LENGTHS = [
    dict(max_epochs=5),
    dict(max_epochs=5, val_interval=2),
    dict(max_epochs=6, val_interval=2),
    dict(max_epochs=9, val_begin=4),
    dict(max_epochs=30, val_interval=10, dynamic_intervals=[(20, 2)]),
    dict(max_epochs=31, val_interval=7, val_begin=8, dynamic_intervals=[(9, 3), (21, 1)]),
    dict(max_iters=10, val_interval=4),
    dict(max_iters=8, val_interval=4),
    dict(max_iters=10, val_interval=2, val_begin=5),
    dict(max_iters=10),
    dict(max_iters=40, val_interval=10, dynamic_intervals=[(20, 3)]),
]


@pytest.mark.parametrize('options', LENGTHS)
def test_the_schedule_is_mmengines(options, monkeypatch):
    from training_step import schedule

    by_epoch = 'max_epochs' in options
    kind = EpochBasedTrainLoop if by_epoch else IterBasedTrainLoop
    loop = loop_of(kind, **options)

    def run_iter(*args):
        loop._iter += 1

    monkeypatch.setattr(loop, 'run_iter', run_iter)
    if not by_epoch:
        loop.dataloader_iterator = repeat({})
    loop.run()
    name = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
    for train_cfg in (dict(options, type=name), dict(options, by_epoch=by_epoch)):
        assert schedule(train_cfg, 3) == (loop.iter, 3, loop._runner.val_loop.count)


def test_processes_share_an_epoch():
    from training_step import schedule

    assert schedule(dict(max_epochs=4), 10, 8) == (8, 2, 4)
    assert schedule(dict(max_iters=100, val_interval=50), 10, 8) == (100, 2, 2)


@pytest.fixture
def time_of(monkeypatch):
    """Seconds that pass only when a test says so."""
    import step_timing

    now = [0.0]
    monkeypatch.setattr(step_timing, 'clock', lambda device: now[0])

    def passes(seconds):
        now[0] += seconds

    return passes


def test_data_and_model_are_told_apart(time_of):
    from step_timing import time_steps

    taken = []

    def source():
        for number in range(6):
            time_of(100 if number < 2 else 2 + number)
            yield number

    def step(batch):
        taken.append(batch)
        time_of(50 if batch < 2 else 3)

    found = time_steps(step, source(), torch.device('cpu'), 2, 4)
    assert found == dict(data=(4 + 5 + 6 + 7) / 4, model=3)
    assert taken == list(range(6))


class Loader:
    """A loader of so many images, each of which takes two seconds."""

    collate_fn = list

    def __init__(self, sizes, time_of):
        self.sizes, self.time_of = sizes, time_of
        self.dataset, self.read = self, []

    def __len__(self):
        return sum(self.sizes)

    def __getitem__(self, index):
        self.time_of(2 if self.read else 100)
        self.read.append(index)
        return index

    def __iter__(self):
        for size in self.sizes:
            self.time_of(2 * size)
            yield dict(inputs=[None] * size)


def test_a_batch_without_workers(time_of):
    from step_timing import seconds_a_batch

    loader = Loader([50], time_of)
    # The first batch does not count.
    assert seconds_a_batch(loader, 4) == 8
    assert len(loader.read) == 16 and loader.read[::15] == [0, 49]
    assert seconds_a_batch(Loader([1], time_of), 2) == 4


def test_an_image_of_validation(time_of):
    from step_timing import seconds_an_image

    def step(batch):
        time_of(3)

    # Two seconds each, and three for a batch.
    loader = Loader([7, 1, 2], time_of)
    assert seconds_an_image(step, loader, torch.device('cpu')) == (3 * 2 + 2 * 3) / 3
    assert seconds_an_image(step, Loader([4], time_of), torch.device('cpu')) == 11 / 4
    long = Loader([1] * 2 + [4] * 9, time_of)
    assert seconds_an_image(step, long, torch.device('cpu'), count=2) == (5 + 11) / 5


def found_of(data=1.0, model=3.0, batch=2.0, workers=1, images=10):
    return dict(
        seconds=dict(data=data, model=model),
        loader=dict(seconds_a_batch=batch, workers=workers),
        validation=dict(seconds_an_image=0.5, images=images),
    )


def test_what_is_reckoned():
    from dry_run import reckon

    cfg = Config(
        dict(train_dataloader=dict(batch_size=2), train_cfg=dict(max_epochs=3, val_interval=1))
    )
    found = reckon(cfg, 1, 100, found_of())
    assert found == dict(
        step=4,
        images_a_step=2,
        images_a_second=0.5,
        iterations=300,
        iterations_an_epoch=100,
        validations=3,
        epoch=400,
        one_validation=5,
        total=1215,
    )
    eight = reckon(cfg, 8, 100, found_of())
    assert eight['images_a_second'] == 4 and eight['epoch'] == 4 * 13
    assert eight['one_validation'] == 1  # two images each
    assert eight['total'] == 3 * (52 + 1)
    # The workers had prepared the few batches that were timed.
    assert reckon(cfg, 1, 100, found_of(0, 3, 12, 2))['step'] == 6
    assert reckon(cfg, 1, 100, found_of(5, 3, 5, 0))['step'] == 8


def test_durations():
    from dry_run_report import duration

    assert [
        duration(seconds)
        for seconds in (0.01234, 60, 91, 3599, 3 * 3600 + 120, 47.9 * 3600, 50 * 3600)
    ] == ['0.0123 s', '60 s', '2 min', '1 h 0 min', '3 h 2 min', '47 h 54 min', '2 d 2 h']


@pytest.mark.parametrize(
    'workers, needed, cores, said',
    [
        (2, 2, 2, 'it keeps up'),
        (2, 3, 4, 'it does not keep up'),
        (2, 8, 4, 'there are 4 cores'),
        (0, 1, 4, 'waits for each'),
    ],
)
def test_whether_the_loader_keeps_up(workers, needed, cores, said):
    from dry_run_report import tell_loader

    text = tell_loader(dict(workers=workers, workers_needed=needed, cores=cores, seconds_a_batch=1))
    assert said in text and f'{needed} would do' in text


@pytest.fixture
def dry_run(monkeypatch, capsys):
    def run(*command):
        import dry_run as tool

        monkeypatch.setattr(sys, 'argv', ['dry_run.py', *map(str, command)])
        tool.main()
        return capsys.readouterr().out

    return run


def test_a_dry_run_leaves_nothing(dry_run, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = dry_run(
        config,
        '--steps',
        2,
        '--warm-up',
        1,
        '--gpus',
        2,
        '--device-memory',
        100,
        '--device',
        'cpu',
        '--out',
        'out/numbers.json',
        '--cfg-options',
        'train_dataloader.num_workers=1',
        'train_dataloader.persistent_workers=True',
    )
    found = json.loads((tmp_path / 'out' / 'numbers.json').read_text())
    assert [path.name for path in tmp_path.rglob('*')] == ['out', 'numbers.json']
    assert found['iterations'] == 8 and found['validations'] == 1
    # 16 images, 4 a step, by two processes.
    assert found['iterations_an_epoch'] == 2 and found['images_a_step'] == 8
    assert found['validation']['images'] == 8
    assert found['validation']['seconds_an_image'] > 0
    assert found['seconds']['model'] > 0 and found['step'] > 0
    assert found['loader']['workers'] == 1
    assert found['fits'] is True and 1e6 < found['peak_bytes'] < 1e9
    for said in ('an estimate from one', 'fits into 100 GiB', 'mean of 2'):
        assert said in text


def test_what_does_not_fit(dry_run, config, tmp_path):
    text = dry_run(
        config,
        '--steps',
        1,
        '--warm-up',
        1,
        '--device',
        'cpu',
        '--device-memory',
        0.0001,
        '--out',
        tmp_path / 'numbers.json',
        '--cfg-options',
        'val_dataloader=None',
        'val_cfg=None',
        'val_evaluator=None',
    )
    assert 'does not fit into 0.0001 GiB' in text
    found = json.loads((tmp_path / 'numbers.json').read_text())
    assert found['fits'] is False
    assert '0 images, without its metric' in text


def test_missing_images_are_named(dry_run, config, digits, tmp_path):
    root = tmp_path / 'digits'
    shutil.copytree(digits, root)
    for path in (root / 'train').iterdir():
        path.unlink()
    with pytest.raises(SystemExit) as error:
        dry_run(config, '--cfg-options', f'train_dataloader.dataset.data_root={root}/')
    message = error.value.code
    assert message.startswith(str(config)) and '\n' not in message
    assert f'cannot prepare {root}/train/' in message


def test_bad_images_are_skipped_where_the_config_says_so(dry_run, config, digits, tmp_path):
    root = tmp_path / 'digits'
    shutil.copytree(digits, root)
    (root / 'val' / '000000.bmp').write_bytes(b'')
    dry_run(
        config,
        '--steps',
        '1',
        '--warm-up',
        '1',
        '--cfg-options',
        f'val_dataloader.dataset.data_root={root}/',
        'val_dataloader.dataset.on_bad_image=skip',
    )


def test_too_little_memory_is_said(dry_run, config, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError('CUDA out of memory.')

    monkeypatch.setattr('dry_run.time_steps', full)
    with pytest.raises(SystemExit, match='4 images a step do not fit'):
        dry_run(config)


def test_missing_data_is_named(dry_run, config):
    with pytest.raises(SystemExit) as error:
        dry_run(config, '--cfg-options', 'train_dataloader.dataset.data_root=no_folder/')
    message = error.value.code
    assert message.startswith(str(config)) and '\n' not in message
    assert 'no_folder/' in message and 'train_dataloader' in message


@pytest.mark.parametrize('option', ['--steps', '--gpus', '--device-memory'])
def test_options_are_checked(dry_run, capsys, option):
    with pytest.raises(SystemExit):
        dry_run('c.py', option, 0)
    assert f'{option} must be positive' in capsys.readouterr().err
