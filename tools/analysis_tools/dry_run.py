"""Take a few training steps of a config on its own data, and tell the rest.

Time of a step, split into waiting for data and the model; what an epoch and
the whole schedule take, with the validation runs; memory, and whether it fits;
whether the loader keeps up.  Weights are random and nothing is written but
--out.  Hooks do not run, and metrics are not computed.
"""

import argparse
import json
import math
import os
import sys
from typing import Callable

import torch
from dry_run_report import tell
from memory import step_memory
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from step_timing import batches, seconds_a_batch, seconds_an_image, time_steps
from torch.utils.data import DataLoader
from training_step import add_config, build_training, images_a_step, read_config, schedule

from mmgwap.datasets.unreadable_images import skipping_datasets


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config(parser)
    parser.add_argument(
        '--steps', type=int, default=10, metavar='N', help='that are timed (default: %(default)s)'
    )
    parser.add_argument(
        '--warm-up',
        type=int,
        default=3,
        metavar='N',
        help='steps before these (default: %(default)s)',
    )
    parser.add_argument(
        '--device-memory',
        type=float,
        metavar='GB',
        help='whether it fits into so much (default: that of '
        'the GPU, if there is one), 2**30 bytes each',
    )
    parser.add_argument('--device', default=get_device(), help='default: a GPU if there is one')
    args = parser.parse_args()
    for name in ('gpus', 'steps', 'warm_up'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be positive')
    if args.device_memory is not None and not args.device_memory > 0:
        parser.error('--device-memory must be positive')
    return args


def build_loader(cfg: Config, args: argparse.Namespace, name: str) -> DataLoader:
    """A loader of the config; one line if its data is not there."""
    try:
        return Runner.build_dataloader(cfg[name], seed=0)
    except (OSError, ValueError) as error:
        dataset = cfg[name].dataset
        while 'dataset' in dataset or 'datasets' in dataset:
            dataset = dataset.get('dataset') or dataset.datasets[0]
        reason = ' '.join(str(error).split())
        sys.exit(
            f'{args.config}: cannot read the data of {name}, in '
            f'{dataset.get("data_root") or "no data_root"}: {reason}'
        )


def validation(cfg: Config, args: argparse.Namespace, model: torch.nn.Module) -> dict[str, float]:
    """Seconds for an image, and the number of images."""
    if not (cfg.get('val_dataloader') and cfg.get('val_cfg')):
        return dict(seconds_an_image=0.0, images=0)
    loader = build_loader(cfg, args, 'val_dataloader')
    for dataset in skipping_datasets(loader.dataset):
        dataset.drops_predictions = True  # nothing is measured by them
    model.eval()
    with torch.no_grad():
        seconds = seconds_an_image(model.val_step, loader, torch.device(args.device))
    return dict(seconds_an_image=seconds, images=len(loader.dataset))


def peak_memory(
    step: Callable[[dict], object],
    batch: dict,
    model: torch.nn.Module,
    wrapper: OptimWrapper,
    device: torch.device,
) -> int:
    """Bytes; those that the GPU has had allocated, else a count of tensors."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device)
    return step_memory(lambda: step(batch), model, wrapper.optimizer)['peak']


def cores() -> int:
    """Those that this process may use."""
    # Linux alone tells.
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def dry_run(cfg: Config, args: argparse.Namespace) -> dict:
    """Measure, and reckon what follows."""
    device = torch.device(args.device)
    loader = build_loader(cfg, args, 'train_dataloader')
    model, wrapper = build_training(cfg, device)

    def step(batch: dict) -> None:
        model.train_step(batch, wrapper)

    source = batches(loader)
    seconds = time_steps(step, source, device, args.warm_up, args.steps)
    peak = peak_memory(step, next(source), model, wrapper, device)
    source.close()
    loader._iterator = None  # ends its workers
    one = seconds_a_batch(loader, cfg.train_dataloader.batch_size)
    found = dict(
        config=str(args.config),
        device=device_name(device),
        gpus=args.gpus,
        steps=args.steps,
        seconds=seconds,
        loader=dict(
            workers=loader.num_workers,
            seconds_a_batch=one,
            workers_needed=max(1, math.ceil(one / seconds['model'])),
            cores=cores(),
        ),
        validation=validation(cfg, args, model),
        peak_bytes=peak,
        training_images=len(loader.dataset),
    )
    return dict(found, **reckon(cfg, args.gpus, len(loader), found))


def reckon(cfg: Config, gpus: int, length: int, found: dict) -> dict:
    """Times of an epoch and of the schedule, in seconds.

    Args:
        cfg (Config): with the schedule.
        gpus (int): that share the work, for which no time is added.
        length (int): batches of an epoch on one process.
        found (dict): what was measured.
    """
    loader, plan = found['loader'], schedule(cfg.train_cfg, length, gpus)
    # Few steps are fed by what the workers prepared before.
    step = max(
        sum(found['seconds'].values()), loader['seconds_a_batch'] / max(1, loader['workers'])
    )
    validation = (
        math.ceil(found['validation']['images'] / gpus) * found['validation']['seconds_an_image']
    )
    images = images_a_step(cfg, gpus)
    return dict(
        step=step,
        images_a_step=images,
        images_a_second=images / step,
        iterations=plan.iterations,
        iterations_an_epoch=plan.epoch,
        validations=plan.validations,
        epoch=step * plan.epoch,
        one_validation=validation,
        total=step * plan.iterations + validation * plan.validations,
    )


def device_name(device: torch.device) -> str:
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'{device.type}, {torch.get_num_threads()} threads'


def main() -> None:
    args = parse_args()
    cfg = read_config(args)
    try:
        found = dry_run(cfg, args)
    except torch.OutOfMemoryError:
        sys.exit(
            f'{args.config}: {cfg.train_dataloader.batch_size} images a '
            f'step do not fit into the memory of {args.device}; lower '
            'train_dataloader.batch_size'
        )
    except (OSError, RuntimeError) as error:
        # Of a worker process the text is its whole traceback.
        told = str(error).strip().splitlines()[-1]
        if not (isinstance(error, OSError) or 'cannot prepare' in told):
            raise
        sys.exit(f'{args.config}: {told}')
    tell(cfg, args, found)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1))


if __name__ == '__main__':
    main()
