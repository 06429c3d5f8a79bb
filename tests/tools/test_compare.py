"""tools/compare: commands and order of the trainings, their records, table and plot."""

import argparse
import importlib.util
import sys
from inspect import signature

import numpy as np
import pytest
from matplotlib.figure import Figure
from mmengine.config import Config, DictAction

from mmgwap.models import LabelGuidedTeacher

# Data sets whose arms are options of a teacher's configs.
TEACHERS = ('digits', 'highway', 'aquarium')


@pytest.fixture
def compare(repo, monkeypatch):
    """The modules __main__, training and results of tools/compare."""
    folder = repo / 'tools' / 'compare'
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location('compare_main', folder / '__main__.py')
    main = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(main)
    import results
    import training

    yield main, training, results
    for name in ('training', 'results'):
        sys.modules.pop(name)


def make_runs(training, folder, seeds=(0,), iterations=(4, 5)):
    experiments = [
        training.Experiment('boxes only', 'a/first.py', 'a/labels.py', 10, ('model.w=0',)),
        training.Experiment('labels, too', 'a/first.py', 'a/labels.py', 10),
        training.Experiment('all boxes', 'a/whole.py', 'a/labels.py'),
    ]
    return training.make_runs(experiments, seeds, iterations, folder)


def test_experiments_share_a_first_stage(compare, tmp_path):
    _, training, _ = compare
    runs = make_runs(training, tmp_path, [0, 1])
    firsts = [run.after.folder.name for run in runs]
    assert firsts[:3] == ['first-10-seed0', 'first-10-seed0', 'whole-seed0']
    assert runs[0].after == runs[1].after
    assert [run.folder.name for run in runs[:3]] == [
        'boxes-only-10-seed0',
        'labels-too-10-seed0',
        'all-boxes-seed0',
    ]
    assert len({run.folder for run in runs} | {run.after.folder for run in runs}) == 10


def test_commands(compare, tmp_path):
    _, training, _ = compare
    alone, labels, whole = make_runs(training, tmp_path, [7])
    for run in (alone, whole):
        run.after.folder.mkdir(parents=True)
        (run.after.folder / 'last_checkpoint').write_text('/x/iter_4.pth')
    command = alone.command()
    assert command[3:6] == ['tools/train.py', 'configs/a/labels.py', '--work-dir']
    options = {
        'randomness.seed=7',
        'train_dataloader.dataset.percent=10',
        'train_dataloader.dataset.seed=7',
        'train_cfg.max_iters=5',
        'train_cfg.val_interval=5',
        'param_scheduler.1.end=5',
        'default_hooks.checkpoint.interval=5',
        'load_from=/x/iter_4.pth',
    }
    assert set(command[8:]) == options | {'model.w=0'}
    assert set(labels.command()[8:]) == options
    assert 'model.w=0' not in alone.after.command()
    assert 'train_cfg.max_iters=4' in alone.after.command()
    assert not [part for part in whole.command() if 'percent' in part]


def load(repo, config, options=()):
    cfg = Config.fromfile(repo / 'configs' / config)
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction)
    cfg.merge_from_dict(parser.parse_args(['--cfg-options', *options]).cfg_options)
    return cfg


def test_options_exist_in_the_configs(compare, repo):
    """--cfg-options would silently add an option with a wrong name."""
    main, _, _ = compare
    for data in main.DATA.values():
        for experiment in main.make_experiments(data, [7.0]):
            for config in (experiment.first, experiment.second):
                cfg = load(repo, config)
                assert cfg.param_scheduler[1].end == cfg.train_cfg.max_iters
                assert 'seed' in cfg.randomness and 'load_from' in cfg
                assert 'val_interval' in cfg.train_cfg
                assert 'interval' in cfg.default_hooks.checkpoint
                if experiment.percent:
                    assert cfg.train_dataloader.dataset.type == 'mmgwap.PartialBoxDataset'
    arguments = signature(LabelGuidedTeacher.__init__).parameters
    arms = [arm for name in TEACHERS for arm in main.DATA[name].arms.values()]
    for config, *options in arms:
        for option in options:
            *path, key = option.split('=')[0].split('.')
            node = load(repo, config)
            for name in path:
                node = node[name]
            assert key in (arguments if path == ['model'] else node)


@pytest.mark.parametrize('data', TEACHERS)
def test_arms_share_all_but_their_options(data, compare, repo):
    main, _, _ = compare
    cfgs = {name: load(repo, arm[0], arm[1:]) for name, arm in main.DATA[data].arms.items()}
    plain = cfgs['label-guided teacher']
    for name, cfg in cfgs.items():
        assert cfg.model.type == 'mmgwap.LabelGuidedTeacher'
        assert cfg.train_dataloader.batch_size == 8
        assert cfg.train_dataloader.dataset.dataset == plain.train_dataloader.dataset.dataset
        assert cfg.custom_hooks == plain.custom_hooks
        assert cfg.train_cfg == plain.train_cfg and cfg.param_scheduler == plain.param_scheduler
        boxed = cfg.train_dataloader.batch_sampler
        assert boxed is None if name == 'all boxes' else boxed.num_boxed == 4
    assert cfgs['boxes only'].model.pseudo_weight == 0
    assert cfgs['labels, GWAP branch'].model.pseudo_weight == 0
    assert cfgs['label-blind teacher'].model.guided is False
    assert cfgs['all boxes'].train_dataloader.dataset.percent == 100
    heads = [name for name, cfg in cfgs.items() if 'cls_head' in cfg.model.detector]
    assert heads == ['labels, GWAP branch', 'both']


def test_choose_arms_and_order(compare, tmp_path):
    main, training, _ = compare
    digits = main.DATA['digits']
    names = [experiment.name for experiment in main.make_experiments(digits, [10, 2])]
    assert len(names) == 11 and names[-1] == 'all boxes'
    (both,) = main.make_experiments(digits, [10], ['both'])
    config = 'teacher/rfcn_r18_gwap-teacher_digits-p10.py'
    assert both == ('both', digits.few, config, 10, ())
    chosen = main.make_experiments(digits, [2, 10], ['both', 'all boxes'])
    runs = main.order_runs(training.make_runs(chosen, [0, 1], (4, 5), tmp_path), [10, 2])
    order = [(run.experiment.percent, run.seed) for run in runs]
    assert order == [(10, 0), (None, 0), (10, 1), (None, 1), (2, 0), (2, 1)]


WRITE = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
assert sys.argv[2] != 'fail', 'no luck'
after = pathlib.Path(sys.argv[3])
assert sys.argv[3] == '-' or (after / 'result.json').is_file(), 'too early'
log = folder / '2026' / 'vis_data'
log.mkdir(parents=True, exist_ok=True)
rows = [
    {'pseudo_boxes/0': 7.0, 'step': 2},
    dict(step=2, loss=1., time=.5, pseudo_recall=.2),
    {'pseudo_boxes/0': 8.0, 'step': 4},
    dict(step=4, loss=1., time=.25, pseudo_recall=.4),
    {'step': 4, 'coco/bbox_mAP': float(sys.argv[2])},
    {'pseudo_boxes/0': 9.0, 'step': 4},
]
(log / 'scalars.json').write_text('\\n'.join(map(json.dumps, rows)))
(folder / 'last_checkpoint').write_text('x.pth')
"""


def fake(training, monkeypatch, value=0.5):
    """Replace each training by a script that writes a log, with a value or one for each name."""

    def command(run):
        ap = value[run.folder.name] if isinstance(value, dict) else value
        after = run.after.folder if run.after else '-'
        return [sys.executable, '-c', WRITE, str(run.folder), str(ap), str(after)]

    monkeypatch.setattr(training.Run, 'command', command)


def stages(runs):
    return list(dict.fromkeys(stage for run in runs for stage in (run.after, run)))


@pytest.mark.parametrize('jobs', [1, 2])
def test_train_each_run_once(compare, tmp_path, monkeypatch, jobs):
    _, training, _ = compare
    queue = stages(make_runs(training, tmp_path))
    fake(training, monkeypatch, {run.folder.name: 0.1 * i for i, run in enumerate(queue)})
    done = []
    training.train(queue, jobs, done.append)
    assert sorted(done) == sorted(queue) if jobs == 2 else done == queue
    values = [run.result()['values'] for run in queue]
    found = [value['coco/bbox_mAP'] for value in values]
    assert found == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    expected = {'coco/bbox_mAP', 'pseudo_recall', 'seconds', 'iterations'}
    assert set(values[0]) == expected
    assert values[0]['iterations'] == 4 and values[0]['pseudo_recall'] == 0.4
    assert values[0]['seconds'] == 1.5
    (queue[0].folder / 'result.json').unlink()
    fake(training, monkeypatch, 0.7)
    training.train(queue, jobs, done.append)  # the others have results
    assert [run.result()['values']['coco/bbox_mAP'] for run in queue][:2] == [0.7, 0.1]
    assert len(done) == 10


def test_records_outlive_the_work_directories(compare, tmp_path, monkeypatch):
    _, training, _ = compare
    fake(training, monkeypatch)
    path = tmp_path / 'digits.jsonl'
    runs = make_runs(training, tmp_path / 'old')
    records = training.Records(path)
    assert records.missing(runs) == stages(runs)
    training.train(records.missing(runs[:1]), 1, records.add)
    training.train(records.missing(runs[:1]), 1, records.add)
    assert len(path.read_text().splitlines()) == 2
    assert str(tmp_path) not in path.read_text()

    runs = make_runs(training, tmp_path / 'new')
    records = training.Records(path)
    assert records[runs[0]]['values']['coco/bbox_mAP'] == 0.5
    # The second arm needs the checkpoint of the first stage.
    assert records.missing(runs) == stages(runs)[:1] + stages(runs)[2:]
    assert records.missing(runs[:1]) == []
    training.train(records.missing(runs[:2]), 1, records.add)
    assert len(path.read_text().splitlines()) == 3
    for others in (
        make_runs(training, tmp_path / 'new', [1]),
        make_runs(training, tmp_path / 'new', iterations=(4, 6)),
        make_runs(training, tmp_path / 'new', iterations=(3, 5)),
    ):
        assert not [run for run in others if run in records]


@pytest.mark.parametrize('line', ['{"name"', '{}', '[]', '{"settings": 1}\n7'])
def test_refuse_a_damaged_file_of_records(compare, tmp_path, line):
    _, training, _ = compare
    path = tmp_path / 'digits.jsonl'
    path.write_text(f'{line}\n')
    with pytest.raises(SystemExit, match=r'digits.jsonl:\d: not the result of a run'):
        training.Records(path)


def test_refuse_results_of_other_settings(compare, tmp_path, monkeypatch):
    _, training, _ = compare
    fake(training, monkeypatch)
    training.train([make_runs(training, tmp_path)[0].after], 1)
    with pytest.raises(SystemExit, match='first-10-seed0: trained with other settings.*iters=4'):
        training.train([make_runs(training, tmp_path, iterations=(3, 5))[0].after], 1)


def test_stop_at_a_failed_run(compare, tmp_path, monkeypatch):
    _, training, _ = compare
    queue = stages(make_runs(training, tmp_path))
    fake(training, monkeypatch, 'fail')
    with pytest.raises(SystemExit, match='first-10-seed0.*no luck'):
        training.train(queue, 1)
    assert queue[0].result() is None


def result(value, seed=0, **values):
    values = {'coco/bbox_mAP': value, 'seconds': 90.0, 'iterations': 4, **values}
    return dict(
        values=values,
        seed=seed,
        jobs=2,
        machine='2 cores',
        torch='2.1',
        date=f'2026-01-0{seed + 1}',
    )


def test_table_and_plot(compare, tmp_path):
    _, training, results = compare
    runs = make_runs(training, tmp_path, [0, 1])
    experiments = [run.experiment for run in runs]
    values = [0.1, 0.3, 0.6, 0.2, 0.4]  # three experiments, two seeds; the last is missing
    rows = [result(value, i // 3) for i, value in enumerate(values)]
    rows[1]['values']['pseudo_recall'] = 0.75
    rows[4]['values']['pseudo_recall'] = 0.65
    found = results.collect(zip(experiments, rows))
    alone, labels, whole = found
    assert found[labels]['coco/bbox_mAP'].tolist() == [0.3, 0.4]
    gap = results.gap_closed(found, labels, 'coco/bbox_mAP')
    assert abs(gap - (0.35 - 0.15) / (0.6 - 0.15)) < 1e-12
    assert np.isnan(results.gap_closed(found, alone, 'coco/bbox_mAP'))
    assert np.isnan(results.gap_closed(found, whole, 'coco/bbox_mAP'))
    title = results.describe_runs(rows)
    assert title == (
        '5 runs, seeds 0, 1; 0.1 hours of training, 2 at a time, on 2 cores; '
        '2026-01-01 to 2026-01-02, torch 2.1.'
    )
    metrics = ['coco/bbox_mAP', 'image/mAP', 'pseudo_recall']
    results.write_table(found, metrics, tmp_path / 'a.md', title)
    lines = (tmp_path / 'a.md').read_text().splitlines()
    assert lines[0] == title
    assert 'image-level' not in lines[2] and 'pseudo-box recall' in lines[2]
    numbers = '0.350 (0.300 to 0.400) | 0.700 (0.650 to 0.750)'
    assert lines[5] == f'| 10 % | labels, too | {numbers} | 44 % | 1.5 |'
    assert lines[6].startswith('| all | all boxes (1 of 2 seeds) | 0.600 |  |')
    results.draw(found, 'coco/bbox_mAP', tmp_path / 'a.png')
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')


def test_names_beside_the_plot_do_not_overlap(compare):
    _, _, results = compare
    axes = Figure().subplots()
    axes.set(xlim=(1, 10), ylim=(0, 1))
    ends = {name: (9, height, 'black') for name, height in zip('abc', (0.5, 0.51, 0.2))}
    results._label_ends(axes, ends)
    heights = {text.get_text(): text.xyann[1] for text in axes.texts}
    assert heights['c'] == 0.2
    assert heights['b'] - heights['a'] == pytest.approx(0.055)
    assert heights['b'] + heights['a'] == pytest.approx(1.01)


def test_write_results_of_all_records(compare, tmp_path, monkeypatch, capsys):
    """Table and plot need no work directory, and show more than the last call trained."""
    main, training, _ = compare
    fake(training, monkeypatch)
    for options in (
        ['--percents', '10', '--work-dir', str(tmp_path / 'lost')],
        ['--percents', '10', '2', '--arms', 'both', '--work-dir', str(tmp_path / 'work')],
        ['--table-only'],
    ):
        monkeypatch.setattr(
            sys, 'argv', ['x', '--seeds', '0', '--out', str(tmp_path / 'out'), *options]
        )
        main.main()
    assert (tmp_path / 'out' / 'digits.png').is_file()
    lines = (tmp_path / 'out' / 'digits.md').read_text().splitlines()
    rows = [tuple(cell.strip() for cell in line.split('|')[1:3]) for line in lines[4:]]
    tens = [('10 %', name) for name in main.DATA['digits'].arms if name != 'all boxes']
    assert rows == [('2 %', 'both'), *tens, ('all', 'all boxes')]
    assert lines[0].startswith('Two stages, of 1,000 and 1,500 iterations; 10 runs,')
    assert len((tmp_path / 'out' / 'digits.jsonl').read_text().splitlines()) == 10
    monkeypatch.setattr(sys, 'argv', ['x', '--arms', 'both', 'neither'])
    with pytest.raises(SystemExit):
        main.main()
    assert "--arms: no 'neither' on digits; choose from boxes only" in capsys.readouterr().err
    monkeypatch.setattr(sys, 'argv', ['x', '--table-only', '--out', str(tmp_path / 'none')])
    with pytest.raises(SystemExit, match='digits.jsonl: no results of'):
        main.main()
