"""PxAP: by hand, and against a loop over all thresholds."""

import numpy as np
import pytest

from mmgwap.evaluation.functional import PxAP, unite_masks

from ..references import wsol


def measure(maps, masks, interval=0.001):
    accuracy = PxAP(interval)
    for score_map, mask in zip(maps, masks):
        accuracy.add(np.array(score_map), np.array(mask, np.uint8))
    return accuracy.compute()['px_ap']


@pytest.mark.parametrize('scores', [[1, 0.5, 0.5, 0], [7, 6, 6, 5]])
def test_ranks_equal_pixels_together(scores):
    # Recall 1/2 at precision 1, then recall 1 at precision 2/3. The range of the map is scaled.
    expected = 100 * (1 / 2 + 1 / 2 * 2 / 3)
    assert measure([[scores]], [[[1, 1, 0, 0]]], 0.25) == pytest.approx(expected)


def test_ranks_scores_of_a_step_together():
    scores = [[[1, 0.6, 0.55, 0]]]
    assert measure(scores, [[[1, 1, 0, 0]]], 0.01) == 100
    assert measure(scores, [[[1, 1, 0, 0]]], 0.25) == pytest.approx(500 / 6)
    assert measure([[[1, 0.99, 0]]], [[[1, 0, 0]]], 0.25) == 100  # 1 has its own bin


def test_constant_map():
    """The precision is the share of object pixels."""
    mask = np.zeros((10, 10), np.uint8)
    mask[:3] = 1
    assert measure([np.full((10, 10), 2.0)], [mask]) == pytest.approx(30)


def test_ignored_pixels_do_not_count():
    scores = [[[1, 0.9, 0.5, 0]]]
    assert measure(scores, [[[1, 0, 1, 0]]]) == pytest.approx(500 / 6)
    assert measure(scores, [[[1, 255, 1, 0]]]) == 100
    # They belong to the range of the map.
    assert measure([[[2.0, 1, 0]]], [[[255, 1, 0]]], 0.4) == 100


@pytest.mark.parametrize(
    'interval, dtype', [(0.001, np.float32), (0.03, np.float64), (1 / 49, np.float32)]
)
def test_matches_the_loop(interval, dtype):
    rng = np.random.RandomState(0)
    maps = [rng.rand(12, 17).astype(dtype) for _ in range(3)]
    maps[1] = np.round(maps[1], 2)  # on the edges of the steps
    masks = [rng.choice([0, 1, 255], (12, 17)).astype(np.uint8) for _ in range(3)]
    # The sum has another order.
    assert measure(maps, masks, interval) == pytest.approx(
        wsol.px_ap(maps, masks, interval), rel=1e-12
    )


def test_merges_counts_of_two_processes():
    rng = np.random.RandomState(1)
    whole, first, second = PxAP(), PxAP(), PxAP()
    for part in (first, second):
        score_map, mask = rng.rand(9, 9), rng.choice([0, 1, 255], (9, 9)).astype(np.uint8)
        part.add(score_map, mask)
        whole.add(score_map, mask)
    first.merge(second)
    assert first.compute() == whole.compute() and first.num_images == 2


def test_refuses_invalid_maps_and_masks():
    accuracy = PxAP()
    for score_map, mask, message in (
        ([[np.nan, 1]], [[0, 0]], 'finite'),
        ([[1, 1]], [[0], [0]], r'got \(2, 1\)'),
        ([[1, 1]], [[0, 2]], r'with \[0, 2\]'),
    ):
        with pytest.raises(ValueError, match=message):
            accuracy.add(np.array(score_map), np.array(mask, np.uint8))
    accuracy.add(np.ones((1, 2)), np.array([[0, 255]], np.uint8))
    with pytest.raises(ValueError, match='no object pixel in 1 masks'):
        accuracy.compute()


def test_unites_masks():
    first, second, ignore = np.zeros((3, 4, 4), np.uint8)
    first[0, 0] = 255
    second[1, 1] = 1  # any gray value is the object
    ignore[0:2, 0:3] = 255
    united = unite_masks([first, second], ignore, (4, 4))
    assert united.dtype == np.uint8
    assert united.tolist() == [[1, 255, 255, 0], [255, 1, 255, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert not unite_masks([], None, (2, 3)).any()


@pytest.mark.parametrize('size', [(8, 18), (2, 2), (7, 5)])
def test_resizes_masks_by_the_nearest_pixel(size):
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:5] = 255
    expected = [
        [mask[int(y * 4 / size[0]), int(x * 6 / size[1])] > 0 for x in range(size[1])]
        for y in range(size[0])
    ]
    np.testing.assert_array_equal(unite_masks([mask], None, size), expected)
