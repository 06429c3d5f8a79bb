"""Short trainings of a tiny model."""

import pytest
import torch
from mmdet.utils import register_all_modules
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.runner import Runner

from . import tiny_model  # noqa: F401  (registers TinyModel)

register_all_modules()

# Transforms that draw random numbers.
RANDOM = [dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')]
EPOCHS = {
    'train_cfg': dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=1000),
    'train_dataloader.sampler.type': 'DefaultSampler',
    'default_hooks.checkpoint.by_epoch': True,
    'default_hooks.checkpoint.interval': 1,
    'param_scheduler': None,
}


def use_partial_boxes(cfg: Config) -> None:
    """Keep the boxes of half of the images, and put two of them into each batch."""
    loader = cfg.train_dataloader
    loader.dataset = dict(type='mmgwap.PartialBoxDataset', percent=50, dataset=loader.dataset)
    loader.batch_sampler = dict(type='mmgwap.PartialBoxBatchSampler', num_boxed=2)


def use_multi_task_detector(cfg: Config) -> None:
    head = dict(type='mmgwap.ImageClsHead', source='backbone', num_classes=10, in_channels=64)
    cfg.model = dict(type='mmgwap.MultiTaskDetector', detector=cfg.model, cls_head=head)


@pytest.fixture
def training(config, tmp_path):
    """Function that trains and returns the runner.

    Args: number of iterations, folder, whether half of the images have labels only, whether to
    train the detector of the config instead of the tiny model, additional hooks, a function that
    changes the config and keeps its detector, and changes of the config.
    """

    def train(
        iterations, name='run', partial=False, detector=False, hooks=(), change=None, **changes
    ):
        cfg = Config.fromfile(config)
        cfg.work_dir = str(tmp_path / name)
        cfg.train_dataloader.dataset.pipeline[2:2] = RANDOM
        cfg.train_cfg.update(max_iters=iterations)
        if 'train_cfg.val_interval' not in changes:
            cfg.update(val_cfg=None, val_dataloader=None, val_evaluator=None)
        cfg.default_hooks.checkpoint.interval = 2
        cfg.log_level = 'ERROR'
        if partial:
            use_partial_boxes(cfg)
        if change is not None:
            change(cfg)
        elif not detector:
            cfg.model = dict(type='TinyModel')
        elif partial:
            use_multi_task_detector(cfg)
        # The arguments of the loops differ, so the dict is replaced.
        cfg.train_cfg = changes.pop('train_cfg', cfg.train_cfg)
        cfg.merge_from_dict(changes)
        # Two runs of the same second would share a message hub, and with it the best score.
        MessageHub._instance_dict.clear()
        runner = Runner.from_cfg(cfg)
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()
        return runner

    instances = {kind: dict(kind._instance_dict) for kind in (MMLogger, DetLocalVisualizer)}
    DetLocalVisualizer._instance_dict.clear()  # it would write into the folder of another test
    yield train
    # Leave loggers and visualizers of other tests as they were.
    for kind, before in instances.items():
        kind._instance_dict.clear()
        kind._instance_dict.update(before)


def state_of(runner) -> dict:
    """Weights, buffers and optimizer state by name."""
    state = {f'model.{name}': value for name, value in runner.model.state_dict().items()}
    for index, values in runner.optim_wrapper.optimizer.state_dict()['state'].items():
        state.update({f'{index}.{name}': torch.as_tensor(value) for name, value in values.items()})
    return state


def differing(state: dict, other: dict) -> list:
    """Names of the values that are not equal bit for bit."""
    assert set(state) == set(other)
    return [name for name in state if not torch.equal(state[name], other[name])]
