"""tools/compare/poolings.py: runs, tuned threshold, table and picture."""

import sys

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config

register_all_modules()


@pytest.fixture
def poolings(repo, monkeypatch):
    """The module poolings of tools/compare."""
    monkeypatch.syspath_prepend(str(repo / 'tools' / 'compare'))
    import poolings

    yield poolings
    for name in ('poolings', 'training', 'results'):
        sys.modules.pop(name)


@pytest.mark.parametrize('data', ['digits', 'highway'])
def test_same_schedule_in_all_runs(data, poolings, repo, tmp_path):
    configs = poolings.configs_of(data, list(poolings.POOLINGS))
    runs = poolings.make_runs(configs, [0, 1], tmp_path)
    assert len({run.folder for run in runs}) == 10
    cfgs = [Config.fromfile(repo / 'configs' / run.config) for run in runs]
    for cfg in cfgs:
        assert cfg.train_cfg == cfgs[0].train_cfg
        assert cfg.optim_wrapper == cfgs[0].optim_wrapper
        assert cfg.train_dataloader == cfgs[0].train_dataloader
        assert cfg.model.backbone == cfgs[0].model.backbone
        # The options of a run exist in the config.
        assert cfg.param_scheduler[1].end == cfg.train_cfg.max_iters
        assert 'val_interval' in cfg.train_cfg and 'seed' in cfg.randomness
    command = poolings.make_runs(poolings.configs_of(data, ['gap']), [1], tmp_path, 7)[0].command()
    assert 'train_cfg.max_iters=7' in command
    assert 'randomness.seed=1' in command
    assert not [part for part in command if 'percent' in part]


def prepared(single, repo):
    """Return an untrained classifier and its config on a few images."""
    cfg = Config.fromfile(repo / 'configs/wsol/r18_gap_digits-single.py')
    for name in ('train', 'val'):
        cfg[f'{name}_dataloader'].dataset.data_root = f'{single}/'
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    torch.nn.init.normal_(model.cls_head.classifier.weight)
    return model, cfg


def test_choose_the_threshold_on_training_images(poolings, single, repo, monkeypatch):
    model, cfg = prepared(single, repo)
    monkeypatch.setattr(poolings, 'TUNING_IMAGES', 5)
    measured, evaluate = [], poolings.evaluate

    def seen(model, dataset, **options):
        measured.append((dataset.metadata_root, dataset.get('indices'), options))
        return evaluate(model, dataset, **options)

    monkeypatch.setattr(poolings, 'evaluate', seen)
    found = poolings.tuned_gt_known(model, cfg)
    assert measured == [
        ('metadata/train/', 5, {}),
        ('metadata/val/', None, dict(box_threshold=found['threshold'])),
    ]
    train = Config(dict(cfg.train_dataloader.dataset)).copy()
    train.update(pipeline=cfg.val_dataloader.dataset.pipeline, indices=5, test_mode=True)
    best = poolings.evaluate(model, train)
    assert found['threshold'] == best['max_box_acc_threshold']
    threshold = dict(box_threshold=found['threshold'])
    expected = poolings.evaluate(model, cfg.val_dataloader.dataset, **threshold)
    assert found['gt_known'] == expected['gt_known']


def test_table(poolings, tmp_path):
    from results import collect

    results = []
    configs = poolings.configs_of('digits', ['gap', 'gmp'])
    for i, run in enumerate(poolings.make_runs(configs, [0, 1], tmp_path)):
        values = {name: 10.0 + i for name in poolings.COLUMNS}
        values = {**values, 'tuned/threshold': 0.25, 'seconds': 60.0, 'iterations': 4}
        results.append((run.experiment, dict(values=values)))
    poolings.write_table(collect(results), tmp_path / 'a.md', 'Title.')
    title, _, heads, _, gap, gmp = (tmp_path / 'a.md').read_text().split('\n')[:6]
    assert title == 'Title.' and 'MaxBoxAccV2' in heads
    cells = [cell.strip() for cell in gap.split('|')]
    assert cells[1:4] == ['GAP', '89.0 (88.0 to 90.0)', '11.0 (10.0 to 12.0)']
    assert cells[-3:-1] == ['0.25 (0.25 to 0.25)', '1.0']
    assert 'GMP' in gmp and '12.0 (11.0 to 13.0)' in gmp
    for result in results:
        del result[1]['values']['wsol/px_ap']
    poolings.write_table(collect(results), tmp_path / 'b.md', 'Without masks.')
    heads, rest = (tmp_path / 'b.md').read_text().split('\n', 3)[2:]
    assert 'PxAP' not in heads and heads.count('|') == rest.splitlines()[1].count('|') == 8


def test_picture(poolings, single, repo, tmp_path, monkeypatch):
    from mmcv import imread

    model, cfg = prepared(single, repo)
    monkeypatch.setattr(poolings, 'load_config', lambda path: cfg)
    monkeypatch.setattr(poolings, 'load_model', lambda run: model)
    runs = poolings.make_runs(poolings.configs_of('digits', ['gap', 'cs-gwap']), [0], tmp_path)
    poolings.draw(runs, 2, tmp_path / 'a.png')
    picture = imread(str(tmp_path / 'a.png'))
    # Two rows of an image and two maps.
    assert abs(picture.shape[0] - (2 * 2.4 + 0.5) * 110) <= 2
    assert abs(picture.shape[1] - 3 * 2.2 * 110) <= 2
    assert picture.std() > 20
