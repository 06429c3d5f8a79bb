"""Digits in clutter: content of the images, and reproducibility."""

import hashlib

import digits
import numpy as np
import pytest
from digits import CANVAS, MAX_OVERLAP, _overlap, load_glyphs, make_scene
from numpy.random import RandomState


def make_scenes(**options):
    glyphs, _ = load_glyphs(seed=0)
    return [make_scene(glyphs, RandomState([7, index]), **options) for index in range(200)]


@pytest.fixture(scope='module')
def scenes():
    return make_scenes()


@pytest.fixture(scope='module')
def singles():
    return make_scenes(single=True)


def box_of(mask):
    lines, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], lines[0], columns[-1] + 1, lines[-1] + 1


def size_of(mask):
    """Return the longer side of the box around a mask."""
    x1, y1, x2, y2 = box_of(mask)
    return max(x2 - x1, y2 - y1)


def test_images(scenes):
    for scene in scenes:
        assert scene.image.shape == (CANVAS, CANVAS, 3)
        assert scene.image.dtype == np.uint8
        assert 1 <= len(scene.labels) == len(scene.masks) <= 4
    assert {len(scene.labels) for scene in scenes} == {1, 2, 3, 4}
    assert {d for scene in scenes for d in scene.labels} == set(range(10))


def test_digits_are_20_to_56_pixels(scenes):
    # In scenes with one digit no part is covered.
    sizes = [size_of(scene.masks[0]) for scene in scenes if len(scene.masks) == 1]
    assert min(sizes) >= 20 and max(sizes) <= 56
    assert max(sizes) - min(sizes) > 20


def test_masks_are_disjoint_and_cover_little_of_each_other(scenes):
    for scene in scenes:
        assert np.sum(scene.masks, axis=0).max() <= 1
        boxes = [box_of(mask) for mask in scene.masks]
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                # The bound applies to whole digits; a covered edge shrinks a box.
                assert _overlap(a, b) <= MAX_OVERLAP + 0.15


def test_overlap():
    assert _overlap((0, 0, 4, 4), (2, 2, 4, 4)) == 1
    assert _overlap((0, 0, 4, 4), (3, 0, 7, 4)) == 0.25
    assert _overlap((0, 0, 4, 4), (4, 0, 8, 4)) == 0
    assert _overlap((0, 0, 4, 4), (9, 9, 11, 11)) == 0


def test_train_and_val_share_no_digit_image():
    train, val = load_glyphs(seed=0)
    assert len(train.images) + len(val.images) == 1797
    assert len(train.images) == 4 * 1797 // 5
    seen = {image.tobytes() for image in train.images}
    # The source has no image twice, so images differ in their bytes.
    assert len(seen) == len(train.images)
    assert not any(image.tobytes() in seen for image in val.images)


@pytest.mark.parametrize(
    'form, expected',
    [
        ('scenes', 'c882316adec9bd819c00712a4b36553a4687548f08defed3d52f64cc64c4861a'),
        ('singles', '387f5e1698774dd22c2ca95a42646aceab2df7ce6bcd1e44297f02c778fd04cb'),
    ],
)
def test_seed_fixes_every_byte(request, form, expected):
    """Compare with digests computed on another machine."""
    digest = hashlib.sha256()
    for scene in request.getfixturevalue(form)[:20]:
        digest.update(scene.image.tobytes())
        digest.update(np.packbits(scene.masks).tobytes())
    assert digest.hexdigest() == expected


def test_another_seed_gives_other_images(scenes):
    glyphs, _ = load_glyphs(seed=0)
    other = make_scene(glyphs, RandomState([8, 0]))
    assert not np.array_equal(other.image, scenes[0].image)


def test_single_digits(singles):
    for scene in singles:
        assert scene.image.shape == (CANVAS, CANVAS, 3)
        assert len(scene.labels) == len(scene.masks) == 1
    # Large digits have wide soft edges.
    sizes = [size_of(scene.masks[0]) for scene in singles]
    assert 29 <= min(sizes) <= 37 and 91 <= max(sizes) <= 101
    labels = [scene.labels[0] for scene in singles]
    assert set(labels) == set(range(10))
    assert max(map(labels.count, range(10))) < 2 * len(labels) / 10


def test_mask_covers_the_drawn_digit(singles, monkeypatch):
    """Estimate the opacity from the image with and without its digit."""
    monkeypatch.setattr(digits, '_draw_digit', lambda *args: None)
    train, _ = load_glyphs(seed=0)
    for index, scene in enumerate(singles[:50]):
        empty = make_scene(train, RandomState([7, index]), single=True)
        assert not empty.masks
        change = scene.image.astype(float) - empty.image
        # The middle of a stroke is opaque, so the most frequent colour is that of the digit.
        colours, counts = np.unique(scene.image[change.any(-1)], axis=0, return_counts=True)
        most = colours[counts.argmax()] - empty.image.astype(float)
        known = (most**2).sum(-1) > 3000  # colours that differ enough
        assert known.mean() > 0.9
        opacity = (change * most).sum(-1) / np.maximum((most**2).sum(-1), 1)
        (mask,) = scene.masks
        # The mask contains opacities from 80 / 255 = 0.31.
        assert mask[known & (opacity > 0.36)].all()
        assert not mask[known & (opacity < 0.27)].any()
        assert mask[known].sum() > 20
