"""What a data set with few boxes logs at its start."""

import logging
from collections.abc import Sequence

import numpy as np
from mmengine.logging import print_log

from .summaries import Summary

UNLABELLED = ('ignore', 'negative', 'error')


def report_split(
    images: list[Summary],
    boxed: np.ndarray,
    classes: Sequence[str],
    boxes_only: bool,
    unlabelled: str,
) -> None:
    """Log how many images keep their boxes, and what looks wrong.

    Args:
        images (list): all of a data set.
        boxed (np.ndarray): (len(images), ) bool, which keep their boxes.
        classes (sequence): names.
        boxes_only (bool): whether the others are left out.
        unlabelled (str): as in :func:`report_unlabelled`.

    Raises:
        ValueError: if no image is left, or as :func:`report_unlabelled`.
    """
    kept, others = (
        [image for image, one in zip(images, boxed) if one == kind] for kind in (True, False)
    )
    if boxes_only and not kept:
        raise ValueError('PartialBoxDataset: boxes_only=True, and no image keeps its boxes')
    what = 'are left out' if boxes_only else 'have image labels only'
    print_log(
        f'PartialBoxDataset: {len(kept)} of {len(images)} images keep '
        f'their boxes, {len(others)} {what}',
        'current',
    )
    missing = _classes(others) - _classes(kept)
    if not kept:
        _warn('no image keeps its boxes, so others must train the detector')
    elif missing:
        _warn(f'no image keeps boxes of {", ".join(classes[c] for c in sorted(missing))}')
    if not boxes_only:
        report_unlabelled(
            [image.id for image in others if not (image.present or image.ignored)],
            unlabelled,
            'PartialBoxDataset',
        )


def _classes(images: list[Summary]) -> set:
    return set().union(*(image.present for image in images))


def _warn(message: str) -> None:
    print_log(f'PartialBoxDataset: {message}', 'current', logging.WARNING)


def report_unlabelled(images: list, unlabelled: str, where: str) -> None:
    """Warn of images of which neither boxes nor labels are known.

    Args:
        images (list): their ids or paths.
        unlabelled (str): 'ignore', 'negative' or 'error'.
        where (str): the data set.

    Raises:
        ValueError: if there are some and ``unlabelled`` is 'error'.
    """
    if not images:
        return
    what = f'{where}: {len(images)} images have neither boxes nor labels, such as {images[0]}'
    if unlabelled == 'error':
        raise ValueError(
            f"{what}; unlabelled='ignore' keeps them out of the "
            "loss, 'negative' takes them for empty"
        )
    taken = 'give no loss' if unlabelled == 'ignore' else 'count as negative for every class'
    print_log(f'{what}; they {taken}', 'current', logging.WARNING)
