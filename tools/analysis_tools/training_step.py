"""Steps of a config's training outside of a run, and how many there are."""

import argparse
import logging
import math
import sys
import warnings
from bisect import bisect
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple, Optional

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.runner.utils import calc_dynamic_intervals


def add_config(parser: argparse.ArgumentParser) -> None:
    """Options that say what is trained."""
    parser.add_argument('config', type=Path)
    parser.add_argument(
        '--gpus', type=int, default=1, help='processes of the training (default: 1)'
    )
    parser.add_argument('--out', type=Path, metavar='FILE.json', help='write the numbers there too')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='as for tools/train.py'
    )


def read_config(args: argparse.Namespace) -> Config:
    """The config, its options merged; one line if it is none to train."""
    register_all_modules()
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('mmengine').setLevel(logging.ERROR)
    if not args.config.is_file():
        sys.exit(f'{args.config}: no such config')
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'):
        if not cfg.get(key):
            sys.exit(f'{args.config}: has no {key}; give a config that tools/train.py takes')
    return cfg


def build_model(cfg: Config) -> torch.nn.Module:
    """The model of a config, with random weights."""
    # Some models change their config.
    return revert_sync_batchnorm(MODELS.build(deepcopy(cfg.model)))


def build_training(cfg: Config, device: torch.device) -> tuple[torch.nn.Module, OptimWrapper]:
    """Model and optimizer of a config; the weights are random."""
    model = build_model(cfg).to(device).train()
    wrapper = ConfigDict(cfg.optim_wrapper)
    if device.type == 'cpu' and wrapper.get('type') == 'AmpOptimWrapper':
        # Its scaler of the loss needs a GPU.
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)
        wrapper.type = 'OptimWrapper'
    # What a run tells its parts, such as those that change the images' size.
    hub = MessageHub.get_current_instance()
    for name, value in dict(iter=0, epoch=0, **cfg.train_cfg).items():
        hub.update_info(name, value)
    return model, build_optim_wrapper(model, wrapper)


class Schedule(NamedTuple):
    """How long a config trains.

    Attributes:
        iterations: of all of it.
        epoch: iterations of an epoch.
        validations: how often it validates.
    """

    iterations: int
    epoch: int
    validations: int


def schedule(train_cfg: dict, batches: int, processes: int = 1) -> Schedule:
    """How long a config trains, counted as mmengine's loops do.

    Args:
        train_cfg (dict): of the config.
        batches (int): of an epoch on one process.
        processes (int): that share an epoch; each takes a step at a time.
    """
    epoch = math.ceil(batches / processes)
    by_epoch = 'max_epochs' in train_cfg and train_cfg.get('by_epoch', True)
    units = train_cfg['max_epochs' if by_epoch else 'max_iters']
    start = train_cfg.get('val_begin', 1)
    milestones, intervals = calc_dynamic_intervals(
        train_cfg.get('val_interval', 1 if by_epoch else 1000), train_cfg.get('dynamic_intervals')
    )
    validations = 0
    for unit in range(start, units + 1):
        interval = intervals[bisect(milestones, unit + 1) - 1]
        validations += unit % interval == 0 or unit == units
    return Schedule(units * epoch if by_epoch else units, epoch, validations)


def images_a_step(cfg: Config, processes: int) -> int:
    """Images that all processes take together."""
    return cfg.train_dataloader.batch_size * processes


def base_batch_note(cfg: Config, processes: int) -> Optional[str]:
    """What is to be said of the learning rate, if anything."""
    base = cfg.get('auto_scale_lr', {}).get('base_batch_size')
    images = images_a_step(cfg, processes)
    if base is None or base == images:
        return None
    return (
        f'--auto-scale-lr of tools/train.py takes the learning rate for '
        f'that of {base} images a step; these are {images}'
    )
