"""Short trainings of a tiny detector."""

import pytest
import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner

register_all_modules()

# What draws random numbers in the loader, beside what does in the model.
RANDOM = [dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')]


def few_boxes(cfg: Config) -> Config:
    """Half of the images keep their boxes."""
    detector = cfg.model
    cfg.model = dict(
        type='mmgwap.MultiTaskDetector',
        detector=detector,
        cls_head=dict(
            type='mmgwap.ImageClsHead', source='backbone', num_classes=10, in_channels=64
        ),
    )
    loader = cfg.train_dataloader
    loader.dataset = dict(type='mmgwap.PartialBoxDataset', percent=50, dataset=loader.dataset)
    loader.batch_sampler = dict(type='mmgwap.PartialBoxBatchSampler', num_boxed=2)
    return cfg


@pytest.fixture
def training(config, tmp_path):
    """Function that trains and returns the runner.

    Args: iterations to train until, folder, whether half of the images have
    labels only, more hooks, and changes of the config.
    """

    def train(iterations, name='run', partial=False, hooks=(), **changes):
        cfg = Config.fromfile(config)
        cfg.work_dir = str(tmp_path / name)
        cfg.train_dataloader.dataset.pipeline[2:2] = RANDOM
        cfg.train_cfg.update(max_iters=iterations)
        if 'train_cfg.val_interval' not in changes:
            cfg.update(val_cfg=None, val_dataloader=None, val_evaluator=None)
        cfg.default_hooks.checkpoint.interval = 2
        cfg.log_level = 'ERROR'
        if partial:
            few_boxes(cfg)
        # Loops take different options, so none is merged.
        cfg.train_cfg = changes.pop('train_cfg', cfg.train_cfg)
        cfg.merge_from_dict(changes)
        runner = Runner.from_cfg(cfg)
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()
        return runner

    before = dict(MMLogger._instance_dict)
    yield train
    # Later tests find the logger that they would have found.
    MMLogger._instance_dict.clear()
    MMLogger._instance_dict.update(before)


def state_of(runner) -> dict:
    """Weights, statistics and momenta, by name."""
    state = {f'model.{name}': value for name, value in runner.model.state_dict().items()}
    for index, of_one in runner.optim_wrapper.optimizer.state_dict()['state'].items():
        state.update({f'{index}.{name}': torch.as_tensor(value) for name, value in of_one.items()})
    return state


def differing(one: dict, two: dict) -> list:
    """Names of what differs in any bit."""
    assert set(one) == set(two)
    return [name for name in one if not torch.equal(one[name], two[name])]
