"""PxAP: by hand, and against a loop over all thresholds."""

import numpy as np
import pytest

from mmgwap.evaluation.functional import PxAP, unite_masks

from ..references import wsol


def measure(maps, masks, interval=0.001):
    accuracy = PxAP(interval)
    for score_map, mask in zip(maps, masks):
        accuracy.add(np.array(score_map, np.float32), np.array(mask, np.uint8))
    return accuracy.compute()['px_ap']


def test_by_hand():
    # At 1 one object, recall 1/2 at precision 1; at 0.5 one of each more,
    # recall 1 at precision 2/3.
    assert measure([[[1, 0.5, 0.5, 0]]], [[[1, 1, 0, 0]]], 0.25) == pytest.approx(
        100 * (1 / 2 + 1 / 2 * 2 / 3)
    )
    # The range of the map does not matter.
    assert measure([[[7, 6, 6, 5]]], [[[1, 1, 0, 0]]], 0.25) == pytest.approx(
        100 * (1 / 2 + 1 / 2 * 2 / 3)
    )


def test_scores_of_a_step_are_ranked_together():
    scores = [[[1, 0.6, 0.55, 0]]]
    assert measure(scores, [[[1, 1, 0, 0]]], 0.01) == 100
    assert measure(scores, [[[1, 1, 0, 0]]], 0.25) == pytest.approx(500 / 6)
    # 0.99 is not 1
    assert measure([[[1, 0.99, 0]]], [[[1, 0, 0]]], 0.25) == 100


def test_a_perfect_map():
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 7:30] = 1
    assert measure([mask * 3.0], [mask]) == 100


def test_an_empty_map_has_the_share_of_the_objects():
    mask = np.zeros((10, 10), np.uint8)
    mask[:3] = 1
    assert measure([np.full((10, 10), 2.0)], [mask]) == pytest.approx(30)


def test_ignored_pixels_do_not_count():
    scores = [[[1, 0.9, 0.5, 0]]]
    assert measure(scores, [[[1, 0, 1, 0]]]) == pytest.approx(500 / 6)
    assert measure(scores, [[[1, 255, 1, 0]]]) == 100
    # but they belong to the range of the map
    assert measure([[[2, 1, 0]]], [[[255, 1, 0]]], 0.4) == 100


@pytest.mark.parametrize('interval', [0.001, 0.03, 1 / 49])
@pytest.mark.parametrize('kind', [np.float32, np.float64])
def test_against_the_loop(interval, kind):
    rng = np.random.RandomState(0)
    maps = [rng.rand(12, 17).astype(kind) for _ in range(3)]
    maps[1] = np.round(maps[1], 2)  # on the edges of the steps
    masks = [rng.choice([0, 1, 255], (12, 17)).astype(np.uint8) for _ in range(3)]
    accuracy = PxAP(interval)
    for pair in zip(maps, masks):
        accuracy.add(*pair)
    # The terms are the same, added in another order.
    assert accuracy.compute()['px_ap'] == pytest.approx(
        wsol.px_ap(maps, masks, interval), rel=1e-12
    )


def test_two_processes_count_as_one():
    rng = np.random.RandomState(1)
    whole, first, second = PxAP(), PxAP(), PxAP()
    for one in (first, second):
        score_map = rng.rand(9, 9)
        mask = rng.choice([0, 1, 255], (9, 9)).astype(np.uint8)
        one.add(score_map, mask)
        whole.add(score_map, mask)
    first.merge(second)
    assert first.compute() == whole.compute() and first.num_images == 2


def test_what_is_refused():
    accuracy = PxAP()
    with pytest.raises(ValueError, match='finite'):
        accuracy.add(np.array([[np.nan, 1]]), np.zeros((1, 2), np.uint8))
    with pytest.raises(ValueError, match=r'got \(2, 1\)'):
        accuracy.add(np.ones((1, 2)), np.zeros((2, 1), np.uint8))
    with pytest.raises(ValueError, match=r'with \[0, 2\]'):
        accuracy.add(np.ones((1, 2)), np.array([[0, 2]], np.uint8))
    accuracy.add(np.ones((1, 2)), np.array([[0, 255]], np.uint8))
    with pytest.raises(ValueError, match='no object pixel in 1 masks'):
        accuracy.compute()


def test_masks_are_united():
    first, second, ignore = np.zeros((3, 4, 4), np.uint8)
    first[0, 0] = 255
    second[1, 1] = 1  # any grey is the object
    ignore[0:2, 0:3] = 255
    united = unite_masks([first, second], ignore, (4, 4))
    assert united.dtype == np.uint8
    assert united.tolist() == [[1, 255, 255, 0], [255, 1, 255, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert unite_masks([first], None, (4, 4)).sum() == 1
    assert not unite_masks([], None, (2, 3)).any()


def test_masks_are_resized_by_the_nearest_pixel():
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:5] = 255
    for size in ((8, 18), (2, 2), (7, 5)):
        wanted = [
            [mask[int(y * 4 / size[0]), int(x * 6 / size[1])] > 0 for x in range(size[1])]
            for y in range(size[0])
        ]
        np.testing.assert_array_equal(unite_masks([mask], None, size), wanted)
