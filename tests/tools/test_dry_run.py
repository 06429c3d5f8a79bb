"""Tests of tools/analysis_tools/dry_run.py: numbers by hand, reports and errors."""

import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from torch import nn

from tests.toy_data import tiny_rfcn, tiny_rfcn_run


@pytest.fixture(autouse=True)
def dry_run(repo, monkeypatch):
    """The module of the tool."""
    monkeypatch.syspath_prepend(str(repo / 'tools' / 'analysis_tools'))
    import dry_run

    register_all_modules()
    return dry_run


@pytest.fixture
def run(dry_run, monkeypatch, capsys):
    """Run the tool on the CPU, two timed steps; return the text that it prints."""

    def main(*command):
        options = ('--device', 'cpu', '--steps', 2)
        monkeypatch.setattr(sys, 'argv', ['dry_run.py', *map(str, (*options, *command))])
        dry_run.main()
        return capsys.readouterr().out

    return main


@pytest.mark.parametrize(
    'train_cfg, epoch, length',
    [
        (dict(max_epochs=5, val_interval=2), 3, dict(iterations=15, validations=3)),
        (dict(max_epochs=5), None, dict(epochs=5, validations=5)),
        (dict(max_iters=10, val_interval=4), 3, dict(iterations=10, validations=3)),
        (
            dict(max_epochs=300, val_interval=10, dynamic_intervals=[(280, 1)], val_begin=20),
            1,
            dict(iterations=300, validations=26 + 1 + 20),
        ),
        (dict(max_iters=8, max_epochs=2, by_epoch=False), None, dict(iterations=8, validations=1)),
    ],
)
def test_schedule(dry_run, train_cfg, epoch, length):
    assert dry_run.schedule(train_cfg, epoch) == length


def test_times_data_and_model(dry_run, monkeypatch):
    now = [0.0]

    def wait(seconds):
        now[0] += seconds

    def batches():
        for number in range(dry_run.WARM_UP + 4):
            wait(100 if number < dry_run.WARM_UP else 2 + number)
            yield number

    def step(batch):
        wait(50 if batch < dry_run.WARM_UP else 3)

    monkeypatch.setattr(dry_run, 'time', SimpleNamespace(perf_counter=lambda: now[0]))
    found = dry_run.time_steps(step, batches(), torch.device('cpu'), 4)
    assert found == dict(data=2 + dry_run.WARM_UP + 1.5, model=3)


class ToyDetector(nn.Module):
    """A model with the interface of a detector."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.cls_head = nn.Linear(8, 5)

    def data_preprocessor(self, batch):
        return batch

    def forward(self, inputs, data_samples=None):
        assert data_samples == ['sample']
        return self.cls_head(self.backbone(inputs).exp().mean((2, 3)))


def test_counts_flops(dry_run):
    batch = dict(inputs=torch.randn(1, 3, 12, 20), data_samples=['sample'])
    found = dry_run.count_flops(ToyDetector().eval(), batch)
    assert found == dict(flops=12 * 20 * 8 * 3 * 9 + 8 * 5, flops_size='20 x 12')


def test_peak_memory_is_in_gib(dry_run, monkeypatch):
    usage = SimpleNamespace(ru_maxrss=3 * 2**20)  # KiB
    monkeypatch.setattr(dry_run.resource, 'getrusage', lambda who: usage)
    monkeypatch.setattr(dry_run.sys, 'platform', 'linux')
    assert dry_run.peak_memory(torch.device('cpu')) == 3


@pytest.mark.parametrize(
    'model', [tiny_rfcn(), dict(type='mmgwap.MultiTaskDetector', detector=tiny_rfcn())]
)
def test_trains_on_random_images(dry_run, model):
    if 'detector' in model:
        head = dict(type='mmgwap.ImageClsHead', source='backbone', num_classes=4, in_channels=64)
        model['cls_head'] = head
    batch = dry_run.random_batch(2, [64, 48])
    assert [tuple(image.shape) for image in batch['inputs']] == [(3, 48, 64)] * 2
    wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
    cfg = Config(dict(model=model, train_cfg={}, optim_wrapper=wrapper))
    model, wrapper = dry_run.build_training(cfg, torch.device('cpu'))
    assert all(torch.isfinite(loss) for loss in model.train_step(batch, wrapper).values())


def test_mixed_precision_needs_a_gpu(dry_run):
    wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic', dtype='float16')
    wrapper['optimizer'] = dict(type='SGD', lr=0.1)
    cfg = Config(dict(model=tiny_rfcn(), train_cfg={}, optim_wrapper=wrapper))
    model, built = dry_run.build_training(cfg, torch.device('cpu'))
    assert type(built).__name__ == 'OptimWrapper' and model.training
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'


def test_reports_on_the_data_of_the_config(run, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ['train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=True']
    text = run(config, '--gpus', 2, '--out', 'out/numbers.json', '--cfg-options', *options)
    found = json.loads((tmp_path / 'out' / 'numbers.json').read_text())
    assert [path.name for path in tmp_path.rglob('*')] == ['out', 'numbers.json']
    model = MODELS.build(Config.fromfile(config).model)
    assert found['parameters'] == sum(p.numel() for p in model.parameters())
    assert found['trained'] == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert found['iterations'] == 8 and found['validations'] == 1
    assert found['images_per_step'] == 8 and found['images'] == 64
    assert found['validation_images'] == 8 and found['flops'] > 1e6
    assert 0 < found['memory']['before'] <= found['memory']['peak'] < 100
    seconds = found['seconds']
    assert min(seconds.values()) > 0
    total = 8 * (seconds['data'] + seconds['model']) + seconds['validation']
    assert found['hours'] == pytest.approx(total / 3600)
    for part in ('parameters', 'multiply-adds', '8 images: ', 'GiB', '8 (64 images)', 'hours'):
        assert part in text


def test_divides_epochs_among_processes(dry_run, config):
    args = SimpleNamespace(image_size=None, gpus=3)
    _, epoch = dry_run.train_batches(Config.fromfile(config), args)
    assert epoch == 2  # 16 images, 4 x 3 per step


def test_reports_without_data(repo, run, tmp_path):
    cfg = tiny_rfcn_run(repo / 'configs', 'no_folder')
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)
    cfg.dump(tmp_path / 'tiny.py')
    text = run(tmp_path / 'tiny.py', '--image-size', 96, 64)
    assert 'epochs           3\n' in text and '96 x 64 pixels' in text
    assert 'hours' not in text and 'validations' not in text


def test_reports_without_validation(run, config):
    text = run(config, '--cfg-options', 'val_dataloader=None', 'val_cfg=None', 'val_evaluator=None')
    assert 'iterations       8 (32 images)' in text and 'FLOPs' not in text


def test_skips_unreadable_validation_images_if_configured(run, config, digits, tmp_path):
    root = tmp_path / 'digits'
    shutil.copytree(digits, root)
    (root / 'val' / '000000.bmp').write_bytes(b'')
    options = [f'data_root={root}/', 'on_bad_image=skip']
    run(config, '--cfg-options', *(f'val_dataloader.dataset.{option}' for option in options))


@pytest.fixture
def refusal(run):
    """Function that returns the message with which the tool ends."""

    def message(config, *options):
        with pytest.raises(SystemExit) as error:
            run(config, *options)
        assert error.value.code.startswith(f'{config}: ') and '\n' not in error.value.code
        return error.value.code

    return message


@pytest.mark.parametrize('workers', [0, 1])
def test_names_missing_images(refusal, config, digits, tmp_path, workers):
    root = tmp_path / 'digits'
    shutil.copytree(digits, root)
    for path in (root / 'train').iterdir():
        path.unlink()
    options = [f'dataset.data_root={root}/', f'num_workers={workers}']
    options = [f'train_dataloader.{option}' for option in options]
    message = refusal(config, '--cfg-options', *options)
    assert 'train_dataloader' in message and f'{root}/train/' in message
    assert '--image-size' in message


def test_names_missing_annotations(refusal, config):
    option = 'train_dataloader.dataset.data_root=no_folder/'
    message = refusal(config, '--cfg-options', option)
    assert 'train_dataloader' in message and 'no_folder/' in message


@pytest.mark.parametrize(
    'content, message', [(None, 'no such file'), ('model = dict(type="RFCN")', 'train_dataload')]
)
def test_names_unusable_configs(refusal, tmp_path, content, message):
    path = tmp_path / 'config.py'
    if content:
        path.write_text(content)
    assert message in refusal(path)


def test_reports_missing_memory_in_one_line(dry_run, run, config, monkeypatch):
    def fill(*_):
        raise torch.cuda.OutOfMemoryError('CUDA out of memory.')

    monkeypatch.setattr(dry_run, 'time_steps', fill)
    with pytest.raises(SystemExit, match='out of GPU memory; lower .*batch_size'):
        run(config)


@pytest.mark.parametrize('option', [['--steps', 0], ['--gpus', 0], ['--image-size', 5, 0]])
def test_refuses_wrong_options(run, capsys, option):
    with pytest.raises(SystemExit):
        run('c.py', *option)
    assert option[0] in capsys.readouterr().err.splitlines()[-1]
