"""Draw the images of toy data sets.

A toy data set has the layout, classes and file formats of the real data set, and a few
images of about 60 px with colored rectangles on noise. A seed gives the same files on all
machines with the same JPEG encoder.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import RandomState

SIZES = ((48, 64), (64, 48))  # height and width, used alternately


class Scene(NamedTuple):
    """An image with its objects.

    Attributes:
        image: pixels (h, w, 3), uint8, BGR.
        labels: label of each object.
        boxes: box of each object as x, y, width, height in whole px, inside the image.
    """

    image: np.ndarray
    labels: list[int]
    boxes: list[tuple[int, int, int, int]]


def draw(labels: Sequence[int], rng: RandomState, size: tuple[int, int] = SIZES[0]) -> Scene:
    """Draw a rectangle per label, in the color of the label.

    Args:
        labels (sequence): labels of the objects. Later objects hide earlier ones.
        rng (RandomState): source of positions, sizes and noise.
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
        image[y : y + h, x : x + w] = color(label)
        scene.boxes.append((x, y, w, h))
    return scene


def color(label: int) -> np.ndarray:
    """Return the BGR color of a label: bright, and different for neighboring labels."""
    pixel = np.uint8([[[label * 137 % 180, 255 - label * 31 % 128, 255]]])
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0]


def scenes(groups: Sequence[Sequence[int]], count: int, seed: Sequence[int]) -> Iterator[Scene]:
    """Yield images, each with one object per class of a group. The groups take turns.

    In every twenty images, the fourth has one object, the ninth none, and the fifteenth two
    objects per class. With groups, a small share of the images can contain all classes.

    Args:
        groups (sequence): groups of labels.
        count (int): number of images.
        seed (sequence): seed of the images, several numbers.
    """
    for index in range(count):
        rng = RandomState([*seed, index])
        labels = list(groups[index % len(groups)])
        rng.shuffle(labels)
        labels = {3: labels[:1], 8: [], 14: labels * 2}.get(index % 20, labels)
        yield draw(labels, rng, SIZES[index // len(groups) % len(SIZES)])


def label_groups(count: int, size: int) -> list[range]:
    """Split the labels 0 to ``count - 1`` into groups of ``size``."""
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image in the format of the file name, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image):
        raise OSError(f'cannot write {path}')


def write_lines(path: Path, lines: Sequence) -> None:
    """Write one line of text per value, and create the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{line}\n' for line in lines))
