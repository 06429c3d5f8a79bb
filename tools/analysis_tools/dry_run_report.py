"""What a dry run found, in words."""

import argparse

import torch
from mmengine.config import Config
from training_step import base_batch_note

GIB = 2**30


def duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 90:
        return f'{seconds:.3g} s'
    minutes = round(seconds / 60)
    if minutes < 60:
        return f'{minutes} min'
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f'{hours} h {minutes} min'
    return f'{hours // 24} d {hours % 24} h'


def tell(cfg: Config, args: argparse.Namespace, found: dict) -> None:
    """Print the table."""
    seconds, loader = found['seconds'], found['loader']
    rows = [
        (
            'a step',
            f'{duration(sum(seconds.values()))}: data '
            f'{duration(seconds["data"])}, model {duration(seconds["model"])} '
            f'(mean of {found["steps"]})',
        ),
        ('images a second', f'{found["images_a_second"]:.3g}, {found["images_a_step"]} a step'),
        (
            'an epoch',
            f'{duration(found["epoch"])}: '
            f'{found["iterations_an_epoch"]} steps; the data set has '
            f'{found["training_images"]} images',
        ),
        (
            'a validation',
            duration(found['one_validation']) + ': '
            f'{found["validation"]["images"]} images, without its metric',
        ),
        (
            'all of it',
            f'{duration(found["total"])}: {found["iterations"]} '
            f'steps, {found["validations"]} validations',
        ),
        ('loader', tell_loader(loader)),
        ('peak memory', tell_fit(args, found)),
    ]
    print(f'{args.config} on {found["device"]}\n')
    for name, text in rows:
        print(f'{name:16} {text}')
    if args.gpus > 1:
        print(
            f'{"":16} for {args.gpus} processes an estimate from one, without their communication'
        )
    note = base_batch_note(cfg, args.gpus)
    if note:
        print(f'{"":16} {note}')


def tell_loader(loader: dict) -> str:
    """Whether it keeps up."""
    needed, workers = loader['workers_needed'], loader['workers']
    text = (
        f'{duration(loader["seconds_a_batch"])} for a batch on one core; '
        f'{workers} workers, {needed} would do'
    )
    if not workers:
        return f'{text}; without any, the model waits for each batch'
    if workers < needed:
        text += ': it does not keep up'
    else:
        text += ': it keeps up'
    if needed > loader['cores']:
        text += f', but there are {loader["cores"]} cores'
    return text


def tell_fit(args: argparse.Namespace, found: dict) -> str:
    """The memory, and whether there is as much."""
    peak, device = found['peak_bytes'], torch.device(args.device)
    text = f'{peak / GIB:.3g} GiB'
    if device.type != 'cuda':
        text += ' (the tensors of a step; a GPU takes more)'
    room = args.device_memory and args.device_memory * GIB
    if room is None and device.type == 'cuda':
        room = torch.cuda.get_device_properties(device).total_memory
    if room is None:
        return text
    found.update(device_memory=room, fits=peak <= room)
    return (
        f'{text}: {"fits" if peak <= room else "does not fit"} into '
        f'{room / GIB:.3g} GiB; larger images may follow'
    )
