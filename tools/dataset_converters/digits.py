"""Draw "digits in clutter", a small detection data set that needs no download.

An image shows one to four handwritten digits, or exactly one for weakly supervised localization, on
a textured canvas among fragments of other digits. The digits are the 1,797 images of 8x8 pixels of
the UCI "Optical Recognition of Handwritten Digits" test set, which scikit-learn contains.

A seed gives the same bytes on every machine: numpy guarantees that ``RandomState`` does not change,
all arithmetic is on integers, and OpenCV documents ``INTER_LINEAR_EXACT`` as bit-exact.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import RandomState

CANVAS = 128
SIZES = (22, 53)  # px; longer side of a digit, within 2 px of its mask's
# The longer side of a single digit. Without large digits, nets do not learn from labels only.
SINGLE_SIZES = (32, 96)
MAX_OVERLAP = 0.2  # share of the smaller box
MIN_CONTRAST = 70  # grey levels between a digit and its background
SPLITS = ('train', 'val')


class Scene(NamedTuple):
    """An image and its annotations.

    Attributes:
        image: (128, 128, 3) uint8, BGR.
        labels: digits, 0 to 9.
        masks: (128, 128) bool mask of the visible pixels of each digit.
    """

    image: np.ndarray
    labels: list[int]
    masks: list[np.ndarray]


class Glyphs(NamedTuple):
    """Digit images (N, 8, 8), uint8 from 0 to 255, and their labels (N,)."""

    images: np.ndarray
    labels: np.ndarray


def load_glyphs(seed: int) -> tuple[Glyphs, Glyphs]:
    """Split the digit images 4 : 1 into training and validation.

    Returns:
        tuple[Glyphs, Glyphs]: training and validation digits, without a common image.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Thin strokes are grey; a factor of 1.5 makes them visible.
    images = (digits.images.astype(np.int64) * 3 // 2).clip(0, 16) * 255 // 16
    images = images.astype(np.uint8)
    order = RandomState(seed).permutation(len(images))
    cut = len(order) * 4 // 5
    train, val = (Glyphs(images[part], digits.target[part]) for part in (order[:cut], order[cut:]))
    return train, val


def make_scene(glyphs: Glyphs, rng: RandomState, single: bool = False) -> Scene:
    """Draw an image.

    Args:
        glyphs (Glyphs): source of digits and fragments.
        rng (RandomState): random numbers of this image.
        single (bool): whether to draw exactly one digit instead of one to four.
    """
    image = _texture(rng)
    for _ in range(rng.randint(3, 8)):
        _draw_fragment(image, glyphs, rng)
    scene = Scene(image, [], [])
    boxes = []
    sizes = SINGLE_SIZES if single else SIZES
    for _ in range(1 if single else rng.randint(1, 5)):
        _draw_digit(scene, boxes, glyphs, rng, sizes)
    return scene


def _texture(rng: RandomState) -> np.ndarray:
    """Draw smooth noise of several scales around a random colour."""
    image = np.zeros((CANVAS, CANVAS, 3), np.int64)
    image += rng.randint(50, 206, 3)
    for cells, strength in ((3, 50), (8, 25), (24, 15), (CANVAS, 12)):
        noise = rng.randint(0, 256, (cells, cells, 3)).astype(np.uint8)
        image += (_resize(noise, (CANVAS, CANVAS)).astype(np.int64) - 128) * strength // 128
    return image.clip(0, 255).astype(np.uint8)


def _draw_fragment(image: np.ndarray, glyphs: Glyphs, rng: RandomState) -> None:
    """Paste a piece of a digit, rotated by a random multiple of 90 degrees."""
    alpha, _ = _random_digit(glyphs, rng)
    height, width = alpha.shape
    part_h = height * rng.randint(35, 60) // 100
    part_w = width * rng.randint(35, 60) // 100
    top = rng.randint(0, height - part_h + 1)
    left = rng.randint(0, width - part_w + 1)
    piece = alpha[top : top + part_h, left : left + part_w]
    piece = np.rot90(piece, rng.randint(0, 4))
    corner = (
        rng.randint(0, CANVAS - piece.shape[0] + 1),
        rng.randint(0, CANVAS - piece.shape[1] + 1),
    )
    _paste(image, piece, corner, rng)


def _draw_digit(
    scene: Scene, boxes: list, glyphs: Glyphs, rng: RandomState, sizes: tuple[int, int]
) -> None:
    """Paste a digit where it covers little of the others; give up after 30 tries."""
    alpha, label = _random_digit(glyphs, rng, sizes)
    height, width = alpha.shape
    for _ in range(30):
        top = rng.randint(0, CANVAS - height + 1)
        left = rng.randint(0, CANVAS - width + 1)
        box = (left, top, left + width, top + height)
        if all(_overlap(box, other) <= MAX_OVERLAP for other in boxes):
            break
    else:
        return
    boxes.append(box)
    mask = np.zeros((CANVAS, CANVAS), bool)
    mask[top : top + height, left : left + width] = alpha >= 80
    for other in scene.masks:
        other &= ~mask
    scene.masks.append(mask)
    scene.labels.append(label)
    _paste(scene.image, alpha, (top, left), rng)


def _random_digit(glyphs: Glyphs, rng: RandomState, sizes: tuple[int, int] = SIZES) -> tuple:
    """Return the opacity of a digit, (h, w) uint8 with a soft edge, and its label."""
    index = rng.randint(0, len(glyphs.images))
    glyph = glyphs.images[index]
    rows = np.flatnonzero(glyph.max(1) >= 96)
    columns = np.flatnonzero(glyph.max(0) >= 96)
    glyph = glyph[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longer, side = rng.randint(sizes[0], sizes[1] + 1), max(glyph.shape)
    glyph = np.pad(glyph, 1)
    size = [length * longer // side for length in glyph.shape]
    return _resize(glyph, size), int(glyphs.labels[index])


def _paste(image: np.ndarray, alpha: np.ndarray, corner: tuple[int, int], rng: RandomState) -> None:
    """Blend a random colour into the image in place, with opacity ``alpha``."""
    top, left = corner
    height, width = alpha.shape
    background = image[top : top + height, left : left + width].astype(np.int64)
    grey = int(background.sum()) // background.size
    colour = rng.randint(0, 256, 3)
    while abs(int(colour.sum()) // 3 - grey) < MIN_CONTRAST:
        colour = rng.randint(0, 256, 3)
    opacity = alpha.astype(np.int64)[..., None]
    image[top : top + height, left : left + width] = (
        background * (255 - opacity) + colour * opacity
    ) // 255


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to (height, width)."""
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR_EXACT)


def _overlap(a: tuple, b: tuple) -> float:
    """Return the intersection over the area of the smaller box."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(width, 0) * max(height, 0) / smaller
