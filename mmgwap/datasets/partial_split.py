"""Which images of a data set keep their boxes."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from .text_files import read_text


def stratified_split(
    labels: Sequence[Collection[int]], percent: float, num_classes: int, seed: int = 0
) -> np.ndarray:
    """Choose a share of the images, of which each class has its part.

    First each class gets one image, the rarest first, since it has the
    fewest to choose from.  Then, image by image, the class that is furthest
    behind its share gets another (iterative stratification, Sechidis et al.,
    ECML PKDD 2011).  Images without any class are one more class.

    Args:
        labels (sequence): the classes of each image.
        percent (float): of the images, in [0, 100].
        num_classes (int): of the data set.
        seed (int): the same one chooses the same images.

    Returns:
        np.ndarray: (len(labels), ) bool, with ``round(percent / 100 *
        len(labels))`` true.

    Raises:
        ValueError: if that is too few for each class that occurs to have one.
    """
    if not 0 <= percent <= 100:
        raise ValueError(f'percent must be in [0, 100], got {percent}')
    count = round(percent / 100 * len(labels))
    if percent in (0, 100):
        return np.full(len(labels), percent == 100)
    member = np.zeros((len(labels), num_classes + 1), dtype=bool)
    for row, classes in zip(member, labels):
        row[list(classes) or [num_classes]] = True
    chosen = np.zeros(len(labels), dtype=bool)
    have = np.zeros(num_classes + 1, dtype=int)
    want = member.sum(axis=0)
    # Each class has its images in a random order, and a place in it.
    order = np.random.RandomState(seed).permutation(len(labels))
    queues = [iter(order[member[order, c]]) for c in range(num_classes + 1)]

    def choose(c: int) -> None:
        for image in queues[c]:
            if not chosen[image]:
                chosen[image] = True
                np.add(have, member[image], out=have)
                return
        raise AssertionError('a class behind its share has images left')

    for c in np.argsort(want[:num_classes], kind='stable'):
        if want[c] and not have[c]:
            choose(c)
    if chosen.sum() > count:
        raise ValueError(
            f'{percent} % of {len(labels)} images are {count}, too few for '
            f'each of the {int((want[:num_classes] > 0).sum())} classes to '
            f'keep boxes: that takes {int(chosen.sum())}; ask for '
            f'{100 * chosen.sum() / len(labels):.3g} % or more'
        )
    for _ in range(count - int(chosen.sum())):
        behind = np.where(have < want, have / np.maximum(want, 1), np.inf)
        choose(int(behind.argmin()))
    return chosen


def write_split(path: Path, ids: Iterable, origin: str) -> None:
    """Write ids of images, a line each, under a comment that tells their origin."""
    lines = [f'# {origin}', *map(str, ids)]
    Path(path).write_text('\n'.join(lines) + '\n', encoding='utf-8')


def read_split(path: Path) -> list[str]:
    """Ids of images in a file, a line each; ``#`` begins a line of comment.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not text, or holds an id twice.
    """
    lines = map(str.strip, read_text(path).splitlines())
    ids = [line for line in lines if line and not line.startswith('#')]
    seen = set()
    for image_id in ids:
        if image_id in seen:
            raise ValueError(f'{path}: holds the id {image_id} twice')
        seen.add(image_id)
    return ids


def mask_of_ids(ids: Sequence, wanted: Sequence[str], where: str) -> np.ndarray:
    """Which of ``ids`` are wanted.

    Args:
        ids (sequence): of all images, str or int.
        wanted (sequence): of those that keep their boxes.
        where (str): the file that they come from, for errors.

    Returns:
        np.ndarray: (len(ids), ) bool.

    Raises:
        ValueError: if an id is wanted that no image has, or that several have.
    """
    wanted = set(wanted)
    mask = np.array([str(image_id) in wanted for image_id in ids], dtype=bool)
    found = [str(ids[i]) for i in np.flatnonzero(mask)]
    unknown = wanted - set(found)
    if unknown:
        raise ValueError(
            f'{where}: {len(unknown)} of its {len(wanted)} ids are not in the '
            f'data set, such as {min(unknown)}'
        )
    if len(found) > len(wanted):
        raise ValueError(
            f'{where}: the data set has images of the same id; split its parts one by one'
        )
    return mask
