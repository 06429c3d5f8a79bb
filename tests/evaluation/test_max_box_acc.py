"""MaxBoxAcc: by hand, and against a loop over all thresholds."""

import pickle

import cv2
import numpy as np
import pytest

from mmgwap.evaluation.functional import MaxBoxAcc, box_iou, resize_boxes

from ..references import wsol

IOUS = (0.3, 0.5, 0.7)


def check(maps, boxes, interval=0.001, ious=IOUS):
    """Measure, and compare with the loop; counts are exact, shares differ by rounding."""
    accuracy = MaxBoxAcc(interval, ious)
    for score_map, truth in zip(maps, boxes):
        accuracy.add(score_map, np.array(truth))
    found = accuracy.compute()
    expected = wsol.box_accuracies(maps, boxes, interval, ious)
    assert found == pytest.approx(expected, rel=1e-12)
    return found


def rectangle(x1, y1, x2, y2, size=(40, 60)):
    """Draw a map of 1 from one corner to the other, both inside."""
    score_map = np.zeros(size, np.float32)
    score_map[y1 : y2 + 1, x1 : x2 + 1] = 1
    return score_map


def shares(found):
    return found['max_box_acc'], *(found[f'max_box_acc_v2_{iou}'] for iou in (30, 50, 70))


def test_iou_includes_both_corners():
    # 5 x 3 and 5 x 4 px, 4 x 2 of them in common.
    pair = box_iou([[0, 0, 4, 2]], [[1, 1, 5, 4], [5, 0, 6, 6], [0, 0, 4, 2]])
    np.testing.assert_array_equal(pair, [[8 / 27, 0, 1]])
    assert box_iou(np.zeros((0, 4)), [[1, 1, 5, 4]]).shape == (0, 1)
    rng = np.random.RandomState(0)
    a, b = (np.sort(rng.randint(0, 9, (20, 2, 2)), axis=1).reshape(-1, 4) for _ in range(2))
    expected = [[wsol.iou(box, other) for other in b.tolist()] for box in a.tolist()]
    np.testing.assert_array_equal(box_iou(a, b), expected)


def test_truncates_resized_boxes_to_whole_pixels():
    boxes = resize_boxes([[10, 20, 499, 374], [0, 0, 1, 1]], (375, 500), (224, 112))
    # 10 * 112 / 500 = 2.24, 20 * 224 / 375 = 11.9, 111.8, 223.4
    assert boxes.tolist() == [[2, 11, 111, 223], [0, 0, 0, 0]]
    assert boxes.dtype == np.int64
    same = resize_boxes([[1.9, 2.2, 3.5, 4.0]], (10, 20), (10, 20))
    assert same.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize('iou, hit', [(8 / 27, 100), (8 / 27 + 1e-9, 0)])
def test_accepts_exactly_the_iou_threshold(iou, hit):
    # 4 x 2 px give the box 0, 0, 4, 2.
    found = check([rectangle(0, 0, 3, 1)], [[[1, 1, 5, 4]]], ious=(iou,))
    assert found['max_box_acc_v2'] == hit and found['max_box_acc'] == 0


def test_constant_map_gives_the_box_0000():
    score_map = np.full((40, 60), 3.5, np.float32)
    assert shares(check([score_map], [[[0, 0, 0, 0]]])) == (100,) * 4
    assert shares(check([score_map], [[[0, 0, 1, 0]]])) == (100, 100, 100, 0)
    assert shares(check([score_map], [[[1, 1, 9, 9]]])) == (0,) * 4


@pytest.mark.parametrize('box', [[20, 15, 35, 25], [7, 7, 53, 33]], ids=['blob', 'inner contour'])
def test_only_v2_counts_nested_contours(box):
    """A thick frame has a blob in its hole; the inner contour runs over the frame."""
    score_map = rectangle(2, 2, 57, 37)
    score_map[8:32, 8:52] = 0
    score_map[15:25, 20:35] = 1
    assert check([score_map], [[box]], ious=(0.95,))['max_box_acc_v2'] == 100
    assert shares(check([score_map], [[[20, 15, 35, 25]]])) == (0, 100, 100, 100)


def test_v1_takes_the_largest_area_and_the_first_of_equal_areas():
    score_map = np.maximum(rectangle(2, 2, 11, 11), rectangle(40, 25, 49, 34))
    boxes = [[2, 2, 12, 12]], [[40, 25, 50, 35]]
    found = [check([score_map], [box])['max_box_acc'] for box in boxes]
    assert sorted(found) == [0, 100]
    # A thin diagonal has the largest box and no area.
    score_map = rectangle(2, 25, 11, 34)
    score_map[range(20), range(30, 50)] = 1
    assert check([score_map], [[[30, 0, 50, 20]]])['max_box_acc'] == 0
    assert check([score_map], [[[2, 25, 12, 35]]])['max_box_acc'] == 100


def test_pixels_at_the_threshold_are_below_it():
    score_map = rectangle(5, 5, 50, 35) * 0.4  # level 102 = 255 * 0.4
    score_map[10:15, 10:15] = 1
    found = check([score_map], [[[10, 10, 14, 14]]], 0.1)
    assert found['max_box_acc'] == 100
    assert found['max_box_acc_threshold'] == pytest.approx(0.4)


def test_all_images_have_the_same_threshold():
    wide, narrow = rectangle(0, 0, 39, 29), rectangle(0, 0, 19, 19)
    maps = [wide * 0.3 + narrow * 0.7, narrow * 0.3 + rectangle(0, 0, 9, 9) * 0.7]
    assert check(maps, [[[0, 0, 40, 30]], [[0, 0, 10, 10]]])['max_box_acc'] == 50


def random_maps(kind, count, size, seed):
    rng = np.random.RandomState(seed)
    for _ in range(count):
        if kind == 'few values':
            yield rng.randint(0, 4, size).astype(np.float32)
            continue
        cells = rng.randn(*dict(smooth=(5, 5), rough=(14, 14), pixels=size, line=(1, 7))[kind])
        yield cv2.resize(cells, size[::-1]).astype(rng.choice([np.float32, np.float64]))


def random_boxes(count, size, seed):
    rng = np.random.RandomState(seed)
    return [
        np.sort((rng.rand(rng.randint(1, 4), 2, 2) * size[::-1]).astype(int), axis=1)
        .reshape(-1, 4)
        .tolist()
        for _ in range(count)
    ]


@pytest.mark.parametrize('ious', [IOUS, (0.1, 0.9)])
@pytest.mark.parametrize('kind', ['smooth', 'rough', 'pixels', 'line', 'few values'])
def test_matches_the_loop(kind, ious):
    size = dict(line=(1, 50), pixels=(24, 17)).get(kind, (31, 44))
    check(list(random_maps(kind, 4, size, 0)), random_boxes(4, size, 1), ious=ious)


@pytest.mark.parametrize('interval', [0.07, 1 / 49])
def test_matches_the_loop_at_other_intervals(interval):
    size = (31, 44)
    check(list(random_maps('smooth', 3, size, 2)), random_boxes(3, size, 3), interval)


SIDES = [(0, 10, 12, 25), (44, 10, 59, 25), (20, 0, 35, 12), (20, 28, 35, 39)]
WHOLE_AND_CORNERS = [(0, 0, 59, 39), (0, 0, 0, 0), (59, 39, 59, 39)]


@pytest.mark.parametrize('region', SIDES + WHOLE_AND_CORNERS)
def test_clips_boxes_at_the_border(region):
    score_map = rectangle(*region) * np.random.RandomState(5).rand(40, 60).astype(np.float32)
    x1, y1, x2, y2 = region
    found = check([score_map], [[[x1, y1, min(x2 + 1, 59), min(y2 + 1, 39)]]])
    assert found['max_box_acc_v2_70'] == 100


def test_merges_counts_of_two_processes():
    size = (31, 44)
    whole, first, second = MaxBoxAcc(), MaxBoxAcc(), MaxBoxAcc()
    for i, pair in enumerate(zip(random_maps('smooth', 5, size, 7), random_boxes(5, size, 8))):
        whole.add(*pair)
        (first if i < 2 else second).add(*pair)
    first.merge(pickle.loads(pickle.dumps(second)))
    assert first.compute() == whole.compute()
    assert first.num_images == 5
    # The size does not depend on the number of images.
    assert len(pickle.dumps(whole)) == len(pickle.dumps(MaxBoxAcc()))


def test_leaves_the_map_unchanged():
    (score_map,) = random_maps('smooth', 1, (31, 44), 9)
    before = score_map.copy()
    MaxBoxAcc().add(score_map, np.array([[1, 1, 9, 9]]))
    np.testing.assert_array_equal(score_map, before)


def test_refuses_invalid_images():
    accuracy = MaxBoxAcc()
    for invalid in (np.nan, np.inf):
        score_map = rectangle(1, 1, 5, 5)
        score_map[3, 3] = invalid
        with pytest.raises(ValueError, match='finite'):
            accuracy.add(score_map, np.array([[0, 0, 1, 1]]))
    with pytest.raises(ValueError, match='boxes are empty'):
        accuracy.add(rectangle(1, 1, 5, 5), np.zeros((0, 4)))
    with pytest.raises(ValueError, match='no image'):
        accuracy.compute()


@pytest.mark.parametrize('interval', [0, 1, -0.1])
def test_refuses_other_intervals(interval):
    with pytest.raises(ValueError, match='interval'):
        MaxBoxAcc(interval)


@pytest.mark.parametrize('ious', [(), (0.0,), (0.5, 1.1)])
def test_refuses_other_ious(ious):
    with pytest.raises(ValueError, match='iou_thresholds'):
        MaxBoxAcc(iou_thresholds=ious)
