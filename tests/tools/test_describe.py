"""describe.py and what it measures with, against sums by hand."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from torch import nn
from torch.profiler import ProfilerActivity, profile

from tests.toy_data import tiny_rfcn, tiny_rfcn_run


@pytest.fixture(autouse=True)
def tools(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / 'tools' / 'analysis_tools'))
    register_all_modules()


def two_layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 200), nn.ReLU(), nn.Linear(200, 10))
    model[0].bias.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    inputs = torch.randn(50, 30)

    def step():
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        optimizer.step()

    step()
    return model, optimizer, step


def test_memory_of_a_step_by_hand():
    from memory import step_memory

    model, optimizer, step = two_layers()
    found = step_memory(step, model, optimizer)
    assert found['weights'] == 4 * (30 * 200 + 200 + 200 * 10 + 10)
    assert found['gradients'] == found['weights'] - 4 * 200
    # The input, the output of the ReLU once, and that of the last layer.
    assert found['activations'] == 4 * 50 * (30 + 200 + 10)


def test_optimizer_state_by_hand():
    from memory import step_memory

    model, optimizer, step = two_layers()
    found = step_memory(step, model, optimizer)
    assert found['optimizer_state'] == found['gradients']
    adam = torch.optim.Adam(model.parameters())
    step()
    adam.step()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert step_memory(step, model, adam)['optimizer_state'] == 2 * found['gradients'] + 4 * len(
        trained
    )  # a counter each


def allocator_peak(step):
    """The most that torch's allocator gave out within a step."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
        step()
    events = [event for event in p.profiler.kineto_results.events() if event.name() == '[memory]']
    events.sort(key=lambda event: event.start_ns())
    return max(0, *np.cumsum([event.nbytes() for event in events]))


def test_peak_is_the_allocators():
    from memory import step_memory

    model, optimizer, step = two_layers()
    found = step_memory(step, model, optimizer)
    # zero_grad has freed the gradients.
    assert found['peak'] == pytest.approx(
        found['weights'] + found['optimizer_state'] + allocator_peak(step), rel=0.02
    )


def test_peak_of_a_detector_is_near_the_allocators():
    from memory import step_memory
    from mmdet.testing import demo_mm_inputs
    from mmengine.optim import OptimWrapper

    torch.manual_seed(0)
    model = MODELS.build(tiny_rfcn(4)).train()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9))
    batch = demo_mm_inputs(2, [[3, 192, 192]] * 2, num_classes=4)

    def step():
        torch.manual_seed(0)
        model.train_step(batch, wrapper)

    step()
    found = step_memory(step, model, wrapper.optimizer)
    before = found['weights'] + found['optimizer_state']
    assert found['peak'] > before + found['activations'] / 2
    # Kernels take some for themselves.
    assert found['peak'] == pytest.approx(before + allocator_peak(step), rel=0.25)


def test_tensors_alive():
    from memory import LiveTensors

    old = torch.zeros(10)
    live = LiveTensors()
    live.watch([old, old[:5]])
    assert live.bytes == live.peak == 40
    with live:
        new = torch.ones(100)
        view = new[10:].view(2, 45)  # of the same storage
        old.add_(1)
        assert live.bytes == 440
        del new
        assert live.bytes == 440
        del view
        assert live.bytes == 40 and live.peak == 440
        old.resize_(20)
        assert live.bytes == 80
    del old
    assert live.bytes == 0 and live.peak == 440


class Toy(nn.Module):
    """As a detector, from outside."""

    def __init__(self):
        super().__init__()
        self.detector = nn.ModuleDict(dict(backbone=nn.Conv2d(3, 8, 3, padding=1, bias=False)))
        self.cls_head = nn.Linear(8, 5)
        self.detector['backbone'].weight.requires_grad_(False)
        self.norm = nn.Identity()

    def data_preprocessor(self, batch):
        return batch

    def forward(self, inputs, data_samples=None):
        assert data_samples == ['sample']
        x = self.detector['backbone'](inputs).exp()
        return self.cls_head(x.mean((2, 3)))


def test_parameters_and_flops_by_hand():
    from complexity import flops, parameters

    model = Toy().eval()
    assert parameters(model) == {
        '': [216 + 45, 45],
        'detector.backbone': [216, 0],
        'cls_head': [45, 45],
    }
    found = flops(model, dict(inputs=torch.randn(1, 3, 12, 20), data_samples=['sample']))
    assert found['flops'] == 12 * 20 * 8 * 3 * 9 + 8 * 5
    assert found['size'] == [12, 20]
    assert found['not_counted'] == {'aten::exp': 1, 'aten::mean': 1}
    assert 'forward' not in vars(model)


def noise_batch(cfg, tmp_path, batch_size=None):
    from describe import noise_loader
    from noise import write_noise

    loader = cfg.train_dataloader
    return next(
        iter(
            noise_loader(
                loader, (write_noise(tmp_path, (48, 64)), (48, 64)), batch_size or loader.batch_size
            )
        )
    )


@pytest.mark.parametrize(
    'config, boxed, size',
    [
        ('rfcn/rfcn_r50_8xb1-120k_coco.py', [True], (600, 800)),
        ('rfcn/rfcn_r50_1xb2-110k_voc0712.py', [True, True], (600, 800)),
        ('gwap/rfcn_r50_gwap_8xb2-120k_coco-p10.py', [False, True], (600, 800)),
        (
            'gwap/rfcn_r50_gwap_1xb4-110k_voc07-boxes_voc12-labels.py',
            [False, False, True, True],
            (600, 800),
        ),
        ('wsol/r50_gap_cub.py', [False] * 32, (224, 224)),
    ],
)
def test_noise_passes_the_pipelines(repo, tmp_path, config, boxed, size):
    cfg = Config.fromfile(repo / 'configs' / config)
    batch = noise_batch(cfg, tmp_path)
    samples = batch['data_samples']
    assert sorted(one.get('has_boxes', True) for one in samples) == boxed
    for image, sample in zip(batch['inputs'], samples):
        assert image.shape == (3, *size)
        if sample.get('has_boxes', True):
            boxes = sample.gt_instances.bboxes.tensor
            assert len(boxes) == 7 and (boxes[:, 2:] > boxes[:, :2]).all()
            assert (boxes >= 0).all() and boxes[:, 2].max() <= size[1]
        else:
            assert len(sample.gt_image_labels) in (1, 7)


def test_fewer_images_than_boxed_ones(repo, tmp_path):
    cfg = Config.fromfile(repo / 'configs/gwap/rfcn_r50_gwap_1xb4-110k_voc0712-p10.py')
    samples = noise_batch(cfg, tmp_path, 2)['data_samples']
    assert sorted(one.has_boxes for one in samples) == [False, True]
    with pytest.raises(SystemExit, match='must be 2 at least'):
        noise_batch(cfg, tmp_path, 1)
    assert cfg.train_dataloader.batch_sampler.num_boxed == 2  # as it was


@pytest.fixture
def describe(monkeypatch, capsys):
    def run(*command):
        import describe as tool

        monkeypatch.setattr(sys, 'argv', ['describe.py', *map(str, command)])
        tool.main()
        return capsys.readouterr().out

    return run


def test_a_config_without_its_data(repo, describe, tmp_path):
    path = tmp_path / 'tiny.py'
    cfg = tiny_rfcn_run(repo / 'configs', 'none')
    cfg.auto_scale_lr = dict(enable=False, base_batch_size=8)
    cfg.dump(path)
    text = describe(
        path, '--image-size', 96, 64, '--gpus', 3, '--out', tmp_path / 'out' / 'tiny.json'
    )
    found = json.loads((tmp_path / 'out' / 'tiny.json').read_text())
    count = sum(p.numel() for p in MODELS.build(cfg.model).parameters())
    assert found['parameters'][''][0] == count
    assert sum(values[0] for name, values in found['parameters'].items() if name) == count
    assert found['memory']['images'] == 4
    assert found['memory']['sizes'] == [[85, 128]]
    assert found['size'] == [96, 128]  # padded to 16
    sizes = found['memory']['bytes']
    buffers = sum(b.nbytes for b in MODELS.build(cfg.model).buffers())
    assert sizes['weights'] == 4 * count + buffers
    assert sizes['peak'] > sizes['weights'] + sizes['optimizer_state']
    for line in (
        '4 x 3 processes = 12',
        '8 iterations, 1 validations',
        'learning rate',
        '8 images a step; these are 12',
        'not among them',
        '4 images of 128 x 85',
    ):
        assert line in text


@pytest.mark.parametrize(
    'content, message',
    [(None, 'no such config'), ('model = dict(type="RFCN")', 'has no train_dataloader')],
)
def test_errors_are_one_line(describe, tmp_path, content, message):
    path = tmp_path / 'config.py'
    if content:
        path.write_text(content)
    with pytest.raises(SystemExit, match=f'^{path}: {message}') as error:
        describe(path)
    assert '\n' not in error.value.code


def test_mixed_precision_needs_a_gpu():
    from training_step import build_training

    cfg = Config(
        dict(
            model=tiny_rfcn(),
            train_cfg={},
            optim_wrapper=dict(
                type='AmpOptimWrapper',
                loss_scale='dynamic',
                dtype='float16',
                optimizer=dict(type='SGD', lr=0.1),
            ),
        )
    )
    model, wrapper = build_training(cfg, torch.device('cpu'))
    assert type(wrapper).__name__ == 'OptimWrapper' and model.training
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'


def test_options_are_checked(describe, capsys):
    for option in ('--gpus', '--batch-size'):
        with pytest.raises(SystemExit):
            describe('c.py', option, 0)
        assert f'{option} must be positive' in capsys.readouterr().err


def test_a_model_without_children_counts_as_one():
    from complexity import parameters

    assert parameters(nn.Linear(2, 3)) == {'': [9, 9]}
    assert parameters(SimpleNamespace(named_children=lambda: [], parameters=lambda: iter(()))) == {}
