"""Choose which images of a data set keep their boxes: a share, a list of ids or a flag."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from mmdet.datasets import CocoDataset, XMLDataset
from mmengine.dataset import BaseDataset
from mmengine.fileio import get

from .coco import read_entries
from .files import read_json, read_text
from .voc import parse_xml

TRUE, FALSE = ('1', 'true', 'yes'), ('0', 'false', 'no')


def stratified_split(
    labels: Sequence[Collection[int]], percent: float, num_classes: int, seed: int = 0
) -> np.ndarray:
    """Choose a share of the images such that each class keeps about the same share.

    First each class gets one image, beginning with the rarest class, which has the fewest images
    to choose from. Then one image at a time goes to the class that is furthest behind its share
    (iterative stratification, Sechidis et al., ECML PKDD 2011). Images without any class form a
    class of their own.

    Args:
        labels (sequence): classes of each image.
        percent (float): percentage of the images to choose, in [0, 100].
        num_classes (int): number of classes of the data set.
        seed (int): seed of the random choice.

    Returns:
        np.ndarray: (len(labels), ) bool, with ``round(percent / 100 * len(labels))`` true values.

    Raises:
        ValueError: if the share is too small for one image of each class that occurs.

    Example:
        >>> int(stratified_split([[0]] * 4 + [[1]] * 2, percent=50, num_classes=2).sum())
        3
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
    # Each class has a queue of its images in random order.
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
            f'percent={percent}: {count} of {len(labels)} images are too few for one of each of '
            f'the {int((want[:num_classes] > 0).sum())} classes, which takes {int(chosen.sum())}; '
            f'percent must be at least {100 * chosen.sum() / len(labels):.3g}'
        )
    for _ in range(count - int(chosen.sum())):
        behind = np.where(have < want, have / np.maximum(want, 1), np.inf)
        choose(int(behind.argmin()))
    return chosen


def write_split(path: Path, ids: Iterable, comment: str) -> None:
    """Write the ids of images, one per line, under a line of comment."""
    lines = [f'# {comment}', *map(str, ids)]
    Path(path).write_text('\n'.join(lines) + '\n', encoding='utf-8')


def read_split(path: Path) -> list[str]:
    """Read the ids of images from a file, one per line; lines that begin with ``#`` are comments.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is not text, or repeats an id.
    """
    lines = map(str.strip, read_text(path).splitlines())
    ids = [line for line in lines if line and not line.startswith('#')]
    seen = set()
    for image_id in ids:
        if image_id in seen:
            raise ValueError(f'{path}: lists the id {image_id} twice')
        seen.add(image_id)
    return ids


def split_from_ids(ids: Sequence, chosen_ids: Sequence[str], where: str) -> np.ndarray:
    """Find the images with the chosen ids.

    Args:
        ids (sequence): ids of all images, str or int.
        chosen_ids (sequence): ids of the images that keep their boxes.
        where (str): path of the split file, for errors.

    Returns:
        np.ndarray: (len(ids), ) bool.

    Raises:
        ValueError: if a chosen id belongs to no image, or to several.
    """
    chosen = set(chosen_ids)
    mask = np.array([str(image_id) in chosen for image_id in ids], dtype=bool)
    found = [str(ids[i]) for i in np.flatnonzero(mask)]
    unknown = chosen - set(found)
    if unknown:
        raise ValueError(
            f'{where}: {len(unknown)} of its {len(chosen)} ids are not in the data set, such as '
            f'{min(unknown)}'
        )
    if len(found) > len(chosen):
        raise ValueError(
            f'{where}: several images of the data set have the same id; split the parts of the '
            'ConcatDataset separately'
        )
    return mask


def split_from_flag(dataset: BaseDataset, flag: str) -> np.ndarray:
    """Read a flag of each image from the annotation files.

    Args:
        dataset: data set of mmdet in COCO or VOC layout.
        flag (str): key of the entries in ``images``, or element of the XML files.

    Returns:
        np.ndarray: (len(dataset), ) bool.

    Raises:
        TypeError: if the data set has another layout.
        ValueError: if the flag of an image is missing, or is not 1, true, yes, 0, false or no.
    """
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    if isinstance(dataset, CocoDataset):
        where = dataset.ann_file
        images, _, _ = read_entries(read_json(where, dataset.backend_args), where, annotated=False)
        flags = {image['id']: image.get(flag) for image in images}
        values = [(f'{where}, image {info["img_id"]!r}', flags[info['img_id']]) for info in infos]
    elif isinstance(dataset, XMLDataset):
        values = [
            (info['xml_path'], _flag_in_xml(dataset, info['xml_path'], flag)) for info in infos
        ]
    else:
        raise TypeError(
            f'flag={flag!r}: needs a CocoDataset or XMLDataset of mmdet, got '
            f'{type(dataset).__name__}; use split_file'
        )
    return np.array([_as_bool(value, flag, where) for where, value in values])


def _flag_in_xml(dataset: XMLDataset, path: str, flag: str) -> Optional[str]:
    root = parse_xml(get(path, backend_args=dataset.backend_args), path)
    try:
        elements = root.findall(flag)
    except (SyntaxError, KeyError, TypeError):  # unknown prefixes and empty paths too
        raise ValueError(f'flag={flag!r}: not a valid path of an XML element') from None
    if len(elements) > 1:
        raise ValueError(f'{path}: has {len(elements)} elements <{flag}>, at most 1 is allowed')
    return elements[0].text if elements else None


def _as_bool(value: Any, flag: str, where: str) -> bool:
    text = str(value).strip().lower()
    if text not in TRUE + FALSE:
        raise ValueError(f'{where}: {flag} must be true or false, got {value!r:.80}')
    return text in TRUE
