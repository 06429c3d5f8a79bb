"""Estimate the cost of training a config from a few training steps.

Prints parameters, FLOPs of a validation image, seconds per step, peak memory and the length of the
schedule. Weights are random, hooks do not run, and no file is written except --out. With
--image-size, random images and boxes replace the data sets of the config.
"""

import argparse
import logging
import math
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Callable, Optional

import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.fileio import dump
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.runner import Runner

from mmgwap.datasets.unreadable_images import skipping_datasets

WARM_UP = 3  # untimed steps before the timed steps


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', type=Path)
    add('--steps', type=int, default=10, help='timed steps (default: %(default)s)')
    add('--gpus', type=int, default=1, help='number of training processes (default: 1)')
    size = dict(type=int, nargs=2, metavar=('WIDTH', 'HEIGHT'))
    add('--image-size', **size, help='use random images; size of the network input in pixels')
    add('--device', default=get_device(), help='default: a GPU if there is one')
    add('--out', type=Path, metavar='FILE.json', help='also write the numbers to this file')
    add('--cfg-options', nargs='+', action=DictAction, default={}, help='as in tools/train.py')
    args = parser.parse_args()
    if min(args.steps, args.gpus, *(args.image_size or [1])) < 1:
        parser.error('--steps, --gpus and --image-size must be positive')
    return args


def read_config(args: argparse.Namespace) -> Config:
    """Read the config and merge --cfg-options into it."""
    if not args.config.is_file():
        sys.exit(f'{args.config}: no such file')
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'):
        if not cfg.get(key):
            sys.exit(f'{args.config}: no {key}; a config for tools/train.py is needed')
    return cfg


def build_training(cfg: Config, device: torch.device) -> tuple[torch.nn.Module, OptimWrapper]:
    """Build the model, from a copy of its config, with random weights, and its optimizer."""
    model = revert_sync_batchnorm(MODELS.build(deepcopy(cfg.model))).to(device).train()
    wrapper = ConfigDict(cfg.optim_wrapper)
    if device.type == 'cpu' and wrapper.get('type') == 'AmpOptimWrapper':
        amp = ('type', 'loss_scale', 'dtype', 'use_fsdp')  # the loss scaler needs a GPU
        wrapper = ConfigDict({key: value for key, value in wrapper.items() if key not in amp})
    # Data preprocessors that resize batches read the progress of the training.
    for name, value in dict(iter=0, epoch=0, **cfg.train_cfg).items():
        MessageHub.get_current_instance().update_info(name, value)
    return model, build_optim_wrapper(model, wrapper)


def random_batch(batch_size: int, size: list[int]) -> dict:
    """Make a batch of random images of a width and height, with boxes and masks."""
    shapes, boxes = [(3, size[1], size[0])] * batch_size, [7] * batch_size  # as COCO on average
    batch = demo_mm_inputs(batch_size, shapes, num_items=boxes, with_mask=True)
    for sample in batch['data_samples']:
        sample.gt_instances.labels.zero_()  # every model has class 0
    return batch


@contextmanager
def data_errors(cfg: Config, name: str) -> Iterator[None]:
    """End the process with one line if the data of a loader cannot be read."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        # The message of a worker process is a whole traceback.
        reason = (str(error).splitlines() or [repr(error)])[-1]
        sys.exit(f'{cfg.filename}: {name}: {reason}; --image-size WIDTH HEIGHT needs no data')


def train_batches(cfg: Config, args: argparse.Namespace) -> tuple[Iterator[dict], Optional[int]]:
    """Return endless training batches, and the iterations per epoch if they are known."""
    if args.image_size:
        batch = random_batch(cfg.train_dataloader.batch_size, args.image_size)
        return iter(lambda: deepcopy(batch), None), None
    with data_errors(cfg, 'train_dataloader'):
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)

    def repeat() -> Iterator[dict]:
        with data_errors(cfg, 'train_dataloader'):
            while True:
                yield from loader

    return repeat(), math.ceil(len(loader) / args.gpus)


def first_validation_image(cfg: Config, args: argparse.Namespace) -> tuple[Optional[dict], int]:
    """Return a batch of the first validation image, and the number of images."""
    if args.image_size:
        return random_batch(1, args.image_size), 0
    if not cfg.get('val_dataloader'):
        return None, 0
    with data_errors(cfg, 'val_dataloader'):
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        for part in skipping_datasets(dataset):
            part.drops_predictions = True  # blank images are allowed: no metric is computed
        return pseudo_collate([dataset[0]]), len(dataset)


def time_steps(
    step: Callable[[dict], object], batches: Iterator[dict], device: torch.device, steps: int
) -> dict[str, float]:
    """Return the mean seconds per step: waiting for the batch (data), and in `step` (model)."""
    data = model = 0.0
    for number in range(WARM_UP + steps):
        start = time.perf_counter()
        batch = next(batches)
        loaded = time.perf_counter()
        step(batch)
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        if number >= WARM_UP:
            data += loaded - start
            model += time.perf_counter() - loaded
    return dict(data=data / steps, model=model / steps)


def peak_memory(device: torch.device) -> float:
    """Return the peak GiB allocated on a GPU, or resident in this process on a CPU."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    return peak / (2**30 if sys.platform == 'darwin' else 2**20)


def count_flops(model: torch.nn.Module, batch: dict) -> dict:
    """Count the multiply-adds of a batch with mmengine's analyzer."""
    data = model.data_preprocessor(batch)
    # The tracer passes the images alone, as in mmdet's get_flops.py.
    model.forward = partial(model.forward, data_samples=data['data_samples'])
    analyzer = FlopAnalyzer(model, data['inputs']).unsupported_ops_warnings(False)
    flops = analyzer.uncalled_modules_warnings(False).tracer_warnings('none').total()
    return dict(flops=int(flops), flops_size='{3} x {2}'.format(*data['inputs'].shape))


def schedule(train_cfg: dict, epoch: Optional[int]) -> dict[str, int]:
    """Return the length of the training; `epoch` is the iterations per epoch, if known."""
    by_epoch = 'max_epochs' in train_cfg and train_cfg.get('by_epoch', True)
    units = train_cfg['max_epochs' if by_epoch else 'max_iters']
    intervals = [(0, train_cfg.get('val_interval', 1 if by_epoch else 1000))]
    intervals += train_cfg.get('dynamic_intervals') or []
    validations = 0
    for end in range(train_cfg.get('val_begin', 1), units + 1):
        interval = [interval for start, interval in intervals if start <= end][-1]
        validations += end == units or end % interval == 0
    known = epoch is not None or not by_epoch
    length = dict(iterations=units * (epoch if by_epoch else 1)) if known else dict(epochs=units)
    return dict(length, validations=validations)


def dry_run(cfg: Config, args: argparse.Namespace) -> dict:
    """Measure the costs of training a config; return them by name."""
    device = torch.device(args.device)
    before = peak_memory(device)
    model, wrapper = build_training(cfg, device)
    batches, epoch = train_batches(cfg, args)
    train_step = partial(model.train_step, optim_wrapper=wrapper)
    seconds = time_steps(train_step, batches, device, args.steps)
    found = dict(
        parameters=sum(p.numel() for p in model.parameters()),
        trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        images_per_step=cfg.train_dataloader.batch_size * args.gpus,
        seconds=seconds,
        memory=dict(peak=peak_memory(device), before=before),
        **schedule(cfg.train_cfg, epoch),
    )
    image, found['validation_images'] = first_validation_image(cfg, args)
    if image:
        repeated = iter(lambda: deepcopy(image), None)
        with torch.no_grad():
            timed = time_steps(model.eval().val_step, repeated, device, 2)
            found.update(count_flops(model, image))
    if found['validation_images']:
        seconds['validation'] = timed['model'] * math.ceil(found['validation_images'] / args.gpus)
    if 'iterations' in found:
        found['images'] = found['iterations'] * found['images_per_step']
        total = found['iterations'] * (seconds['data'] + seconds['model'])
        found['hours'] = (total + found['validations'] * seconds.get('validation', 0)) / 3600
    return found


def print_report(found: dict) -> None:
    """Print the costs, one line each; skip the unknown ones."""
    rows = {
        'parameters': '{parameters:,}, {trained:,} of them trained',
        'FLOPs': '{flops:,} multiply-adds for a validation image, {flops_size} pixels padded',
        'step': '{images_per_step} images: data {seconds[data]:.3f}, model {seconds[model]:.3f} s',
        'peak memory': '{memory[peak]:.2f} GiB (CPU: whole process), {memory[before]:.2f} at start',
        'epochs': '{epochs}',
        'iterations': '{iterations:,} ({images:,} images)',
        'validations': '{validations}, {seconds[validation]:.1f} s each',
        'hours': '{hours:.2f}',
    }
    for name, row in rows.items():
        with suppress(KeyError):
            print(f'{name:17}{row.format(**found)}')


def main() -> None:
    args = parse_args()
    register_all_modules()
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('mmengine').setLevel(logging.ERROR)
    cfg = read_config(args)
    try:
        found = dry_run(cfg, args)
    except torch.cuda.OutOfMemoryError:
        sys.exit(f'{args.config}: out of GPU memory; lower train_dataloader.batch_size')
    print(f'{args.config} on {args.device}')
    print_report(found)
    if args.out:
        dump(found, args.out, indent=1)


if __name__ == '__main__':
    main()
