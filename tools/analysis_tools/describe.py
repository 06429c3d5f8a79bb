"""What a config is and costs.  Images of noise stand for its data.

Parameters, FLOPs of an image at the size that the test pipeline gives it,
images a step, length, learning rate, and the memory of a training step at the
size that the train pipeline gives.  The last is measured: steps of the real
model and optimizer, on the CPU unless --device says otherwise.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from complexity import flops, parameters
from memory import step_memory
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from noise import with_noise, write_noise
from torch.utils.data import DataLoader
from training_step import (
    add_config,
    base_batch_note,
    build_model,
    build_training,
    images_a_step,
    read_config,
    schedule,
)

MIB = 2**20
MEMORY = dict(
    weights='weights and buffers',
    gradients='gradients',
    optimizer_state='optimizer state',
    activations='kept for the backward pass',
    peak='peak of all tensors at one time',
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config(parser)
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        default=(640, 480),
        metavar=('WIDTH', 'HEIGHT'),
        help='of the images before the pipelines (default: 640 480, as most of COCO)',
    )
    parser.add_argument(
        '--batch-size', type=int, help="images in the step that is measured (default: the config's)"
    )
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    args = parser.parse_args()
    for name in ('gpus', 'batch_size'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be positive')
    if min(args.image_size) < 1:
        parser.error('--image-size must be positive')
    return args


def noise_loader(loader: ConfigDict, noise: tuple, batch_size: int) -> DataLoader:
    """A loader of the config on noise, in this process.

    Args:
        loader (ConfigDict): of the config.
        noise (tuple): file and size of the image.
        batch_size (int): of which some images have boxes, as in the config.
    """
    loader = ConfigDict(
        loader,
        dataset=with_noise(loader.dataset, *noise),
        num_workers=0,
        persistent_workers=False,
        batch_size=batch_size,
    )
    loader.pop('prefetch_factor', None)
    sampler = loader.get('batch_sampler') or {}
    num_boxed = sampler.get('num_boxed')
    if num_boxed:
        if batch_size < 2:
            sys.exit(
                '--batch-size must be 2 at least: batches of the config '
                'have images with boxes and without'
            )
        loader.batch_sampler = ConfigDict(sampler, num_boxed=min(num_boxed, batch_size - 1))
    return Runner.build_dataloader(loader, seed=0)


def training_memory(cfg: Config, args: argparse.Namespace, noise: tuple) -> dict:
    """Bytes that a training step needs, and the sizes of its inputs."""
    images = args.batch_size or cfg.train_dataloader.batch_size
    batch = next(iter(noise_loader(cfg.train_dataloader, noise, images)))
    model, wrapper = build_training(cfg, torch.device(args.device))
    model.train_step(batch, wrapper)
    memory = step_memory(lambda: model.train_step(batch, wrapper), model, wrapper.optimizer)
    sizes = {tuple(one.shape[1:]) for one in batch['inputs']}
    return dict(images=images, sizes=sorted(sizes), bytes=memory)


def describe(cfg: Config, args: argparse.Namespace) -> dict:
    """All that is told of a config."""
    model = build_model(cfg).eval()
    found = dict(
        config=str(args.config),
        model=cfg.model.type,
        parameters=parameters(model),
        images_a_step=images_a_step(cfg, args.gpus),
        optimizer=dict(cfg.optim_wrapper.get('optimizer', {})),
    )
    with tempfile.TemporaryDirectory() as folder:
        size = args.image_size[::-1]
        noise = (write_noise(Path(folder), size), size)
        if cfg.get('test_dataloader'):
            batch = next(iter(noise_loader(cfg.test_dataloader, noise, 1)))
            found.update(flops(model, batch))
        found['memory'] = training_memory(cfg, args, noise)
    return found


def tell(cfg: Config, args: argparse.Namespace, found: dict) -> None:
    """Print the table."""
    print(f'{args.config}: {found["model"]}\n')
    for name, (count, trained) in found['parameters'].items():
        print(
            f'{name or "parameters":28} {count / 1e6:9.2f} M, {trained / 1e6:.2f} M of them trained'
        )
    if 'flops' in found:
        height, width = found['size']
        print(
            f'{"FLOPs":28} {found["flops"] / 1e9:9.2f} G multiply-adds, an '
            f'image of {args.image_size[0]} x {args.image_size[1]}, resized '
            f'and padded to {width} x {height}'
        )
        print(
            f'{"  not among them":28} {len(found["not_counted"])} kinds of '
            "operations: element by element, sorting, RoIs, NMS, mmcv's "
            'own; --out lists them'
        )
    tell_length(cfg, args.gpus)
    optimizer = found['optimizer']
    print(f'{"optimizer":28} {optimizer.get("type")}, learning rate {optimizer.get("lr")}')
    tell_memory(found['memory'])


def tell_length(cfg: Config, gpus: int) -> None:
    """Print images a step, and how long the training is."""
    batch = cfg.train_dataloader.batch_size
    print(f'{"images a step":28} {batch} x {gpus} processes = {images_a_step(cfg, gpus)}')
    length = schedule(cfg.train_cfg, 1)
    by_epoch = cfg.train_cfg.get('max_epochs') is not None and cfg.train_cfg.get('by_epoch', True)
    print(
        f'{"length":28} {length.iterations} '
        f'{"epochs" if by_epoch else "iterations"}, {length.validations} '
        'validations'
    )
    note = base_batch_note(cfg, gpus)
    if note:
        print(f'{"":28} {note}')


def tell_memory(memory: dict) -> None:
    sizes = ', '.join(f'{width} x {height}' for height, width in memory['sizes'])
    print(f'memory of a training step, {memory["images"]} images of {sizes}:')
    for name, what in MEMORY.items():
        print(f'  {what:44} {memory["bytes"][name] / MIB:9.1f} MiB')
    print(
        '  Measured: the tensors of one step.  A GPU takes more, for '
        'workspace and\n  for what its allocator keeps in reserve.'
    )


def main() -> None:
    args = parse_args()
    cfg = read_config(args)
    found = describe(cfg, args)
    tell(cfg, args, found)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1, default=str))


if __name__ == '__main__':
    main()
