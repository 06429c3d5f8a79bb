"""What the miniatures of data sets are drawn from.

A miniature has a data set's own layout, classes and kinds of files, and a few
images of some 60 px: coloured rectangles in noise.  A seed gives the same
files on every machine with the same JPEG encoder.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import RandomState

SIZES = ((48, 64), (64, 48))  # height, width; as many of each shape


class Scene(NamedTuple):
    """An image.

    Attributes:
        image: (h, w, 3), uint8, BGR.
        labels: of its objects.
        boxes: of each, x, y, width, height, whole px inside of the image.
    """

    image: np.ndarray
    labels: list[int]
    boxes: list[tuple[int, int, int, int]]


def draw(labels: Sequence[int], rng: RandomState, size: tuple[int, int] = SIZES[0]) -> Scene:
    """Draw a rectangle for each label, in its colour.

    Args:
        labels (sequence): of the objects; the last is never hidden.
        rng (RandomState): of this image.
        size (tuple[int, int]): height and width, at least 16 px.
    """
    height, width = size
    image = rng.randint(0, 64, (height, width, 3)).astype(np.uint8)
    scene = Scene(image, list(labels), [])
    for label in labels:
        w = int(rng.randint(8, width * 2 // 3))
        h = int(rng.randint(8, height * 2 // 3))
        x = int(rng.randint(0, width - w + 1))
        y = int(rng.randint(0, height - h + 1))
        image[y : y + h, x : x + w] = colour(label)
        scene.boxes.append((x, y, w, h))
    return scene


def colour(label: int) -> np.ndarray:
    """BGR, bright; near labels differ, since 137 has no factor of 180."""
    pixel = np.uint8([[[label * 137 % 180, 255 - label * 31 % 128, 255]]])
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0]


def scenes(groups: Sequence[Sequence[int]], count: int, seed: Sequence[int]) -> Iterator[Scene]:
    """Draw images, each with the classes of one group, by turns.

    Of twenty images the fourth has one object only, the ninth none, and the
    fifteenth two of each class of its group.  All others have one of each, so
    that a small share of the images can have all classes.

    Args:
        groups (sequence): of labels.
        count (int): of images.
        seed (sequence): numbers that choose the images.
    """
    for index in range(count):
        rng = RandomState([*seed, index])
        labels = list(groups[index % len(groups)])
        rng.shuffle(labels)
        labels = {3: labels[:1], 8: [], 14: labels * 2}.get(index % 20, labels)
        yield draw(labels, rng, SIZES[index // len(groups) % len(SIZES)])


def in_groups(count: int, size: int) -> list[range]:
    """Labels from 0 to ``count`` - 1, ``size`` together."""
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def write_image(path: Path, image: np.ndarray) -> None:
    """Write what the file's ending says; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image):
        raise OSError(f'cannot write {path}')


def write_lines(path: Path, lines: Sequence) -> None:
    """Write a line of text each; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{line}\n' for line in lines))
