"""tools/compare: commands and order of the trainings, table and plot."""

import json
import sys

import numpy as np
import pytest
from mmengine.config import Config


@pytest.fixture
def compare(repo, monkeypatch):
    """The modules training and results of tools/compare."""
    monkeypatch.syspath_prepend(str(repo / 'tools' / 'compare'))
    import results
    import training

    yield training, results
    for name in ('training', 'results'):
        sys.modules.pop(name)


def experiments(training):
    return [
        training.Experiment('boxes only', 'a/first.py', 'a/first.py', 10),
        training.Experiment('boxes + labels', 'a/first.py', 'a/labels.py', 10),
        training.Experiment('all boxes', 'a/whole.py', 'a/whole.py'),
    ]


def test_experiments_share_a_first_stage(compare, tmp_path):
    training, _ = compare
    firsts, seconds = training.make_runs(experiments(training), [0, 1], tmp_path)
    names = 'first-10-seed0 whole-seed0 first-10-seed1 whole-seed1'.split()
    assert [run.folder.name for run in firsts] == names
    assert len(seconds) == 6
    assert seconds[0].after is seconds[1].after is firsts[0]
    assert len({run.folder for run in firsts + seconds}) == 10


def test_commands(compare, tmp_path):
    training, _ = compare
    _, (_, second, whole) = training.make_runs(experiments(training), [7], tmp_path)
    second.after.folder.mkdir(parents=True)
    (second.after.folder / 'last_checkpoint').write_text('/x/iter_5.pth')
    command = second.command(5)
    assert command[3:6] == ['tools/train.py', 'configs/a/labels.py', '--work-dir']
    assert set(command[8:]) == {
        'randomness.seed=7',
        'train_dataloader.dataset.percent=10',
        'train_dataloader.dataset.seed=7',
        'train_cfg.max_iters=5',
        'train_cfg.val_interval=5',
        'param_scheduler.1.end=5',
        'load_from=/x/iter_5.pth',
    }
    whole.after.folder.mkdir(parents=True)
    (whole.after.folder / 'last_checkpoint').write_text('/x/iter_6.pth')
    assert not [part for part in whole.command(5) if 'percent' in part]


def test_options_exist_in_the_configs(repo):
    """--cfg-options would silently add an option with a wrong name."""
    names = 'digits-p10-boxes-only gwap_digits-p10 gap_digits-p10 '
    names += 'cards-p20-boxes-only gwap_cards-p20 gap_cards-p20'
    for name in names.split():
        cfg = Config.fromfile(repo / f'configs/gwap/rfcn_r18_{name}.py')
        assert cfg.train_dataloader.dataset.percent in (10, 20)
        assert cfg.param_scheduler[1].end == cfg.train_cfg.max_iters == 1000
        assert 'seed' in cfg.randomness and 'load_from' in cfg


WRITE = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
assert sys.argv[2] != 'fail', 'no luck'
log = folder / '2026' / 'vis_data'
log.mkdir(parents=True, exist_ok=True)
rows = [dict(step=2, loss=1., time=.5), dict(step=4, loss=1., time=.25)]
rows.append({'step': 4, 'coco/bbox_mAP': float(sys.argv[2])})
(log / 'scalars.json').write_text('\\n'.join(map(json.dumps, rows)))
"""


def fake(training, monkeypatch, values):
    """Replace each training by a script that writes a log."""

    def command(run, iterations):
        return [sys.executable, '-c', WRITE, str(run.folder), str(values[run.folder.name])]

    monkeypatch.setattr(training.Run, 'command', command)


@pytest.mark.parametrize('jobs', [1, 2])
def test_train_each_run_once(compare, tmp_path, monkeypatch, jobs):
    training, _ = compare
    firsts, _ = training.make_runs(experiments(training), [0, 1], tmp_path)
    values = {run.folder.name: 0.1 * i for i, run in enumerate(firsts)}
    fake(training, monkeypatch, values)
    training.train(firsts, 4, jobs)
    assert [run.result()['coco/bbox_mAP'] for run in firsts] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert firsts[0].result()['iterations'] == 4
    assert firsts[0].result()['seconds'] == 1.5
    (firsts[0].folder / 'result.json').rename(tmp_path / 'kept.json')
    fake(training, monkeypatch, dict(values, **{firsts[0].folder.name: 0.7}))
    training.train(firsts, 4, jobs)  # the others have results
    assert firsts[0].result()['coco/bbox_mAP'] == 0.7


def test_refuse_results_of_other_options(compare, tmp_path, monkeypatch):
    training, _ = compare
    firsts, _ = training.make_runs(experiments(training), [0], tmp_path)
    fake(training, monkeypatch, {run.folder.name: 0.1 for run in firsts})
    training.train(firsts, 4, 1)
    fake(training, monkeypatch, {run.folder.name: 0.2 for run in firsts})
    with pytest.raises(SystemExit, match='first-10-seed0: trained with other'):
        training.train(firsts, 4, 1)


def test_stop_at_a_failed_run(compare, tmp_path, monkeypatch):
    training, _ = compare
    firsts, _ = training.make_runs(experiments(training), [0, 1], tmp_path)
    fake(training, monkeypatch, {run.folder.name: 'fail' for run in firsts})
    with pytest.raises(SystemExit, match='first-10-seed0.*no luck'):
        training.train(firsts, 4, 2)
    assert firsts[0].result() is None


def test_table_and_plot(compare, tmp_path):
    training, results = compare
    _, seconds = training.make_runs(experiments(training), [0, 1], tmp_path)
    values = [0.1, 0.3, 0.6, 0.2, 0.4, 0.7]  # three experiments, two seeds
    for run, value in zip(seconds, values):
        run.folder.mkdir(parents=True)
        result = {'coco/bbox_mAP': value, 'seconds': 90.0, 'iterations': 4, 'command': []}
        (run.folder / 'result.json').write_text(json.dumps(result))
    found = results.collect(seconds)
    alone, labels, whole = found
    assert found[labels]['coco/bbox_mAP'].tolist() == [0.3, 0.4]
    gap = results.gap_closed(found, labels, 'coco/bbox_mAP')
    assert abs(gap - (0.35 - 0.15) / (0.65 - 0.15)) < 1e-12
    assert np.isnan(results.gap_closed(found, alone, 'coco/bbox_mAP'))
    assert np.isnan(results.gap_closed(found, whole, 'coco/bbox_mAP'))
    results.write_table(found, ['coco/bbox_mAP'], tmp_path / 'a.md', 'Title.')
    lines = (tmp_path / 'a.md').read_text().splitlines()
    assert lines[0] == 'Title.'
    assert lines[5] == ('| 10 % | boxes + labels | 0.350 (0.300 to 0.400) | 40 % | 1.5 |')
    assert lines[6].startswith('| all | all boxes | 0.650')
    results.draw(found, 'coco/bbox_mAP', tmp_path / 'a.png')
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')
