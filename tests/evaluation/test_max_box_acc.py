"""MaxBoxAcc: by hand, and against a loop over all thresholds."""

import copy
import pickle

import cv2
import numpy as np
import pytest
from scipy import ndimage

from mmgwap.evaluation.functional import MaxBoxAcc, box_iou, resize_boxes

from ..references import wsol

IOUS = (0.3, 0.5, 0.7)


def measure(maps, boxes, interval=0.001, ious=IOUS):
    accuracy = MaxBoxAcc(interval, ious)
    for score_map, truth in zip(maps, boxes):
        accuracy.add(score_map, np.array(truth))
    return accuracy.compute()


def check(maps, boxes, interval=0.001, ious=IOUS):
    """Against the loop; counts are exact, shares differ by rounding."""
    found = measure(maps, boxes, interval, ious)
    wanted = wsol.box_accuracies(maps, boxes, interval, ious)
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose([found[name] for name in wanted], list(wanted.values()), rtol=1e-12)
    return found


def rectangle(x1, y1, x2, y2, size=(40, 60)):
    """A map of 1 from one corner to the other, both inside."""
    score_map = np.zeros(size, np.float32)
    score_map[y1 : y2 + 1, x1 : x2 + 1] = 1
    return score_map


def shares(found):
    return found['max_box_acc'], *(found[f'max_box_acc_v2_{iou}'] for iou in (30, 50, 70))


def test_the_corners_count():
    # 5 x 3 and 5 x 4 px, 4 x 2 of them in common.
    pair = box_iou([[0, 0, 4, 2]], [[1, 1, 5, 4], [5, 0, 6, 6], [0, 0, 4, 2]])
    np.testing.assert_array_equal(pair, [[8 / 27, 0, 1]])
    assert box_iou(np.zeros((0, 4)), [[1, 1, 5, 4]]).shape == (0, 1)
    rng = np.random.RandomState(0)
    a, b = (np.sort(rng.randint(0, 9, (20, 2, 2)), axis=1).reshape(-1, 4) for _ in range(2))
    np.testing.assert_array_equal(
        box_iou(a, b), [[wsol.iou(one, other) for other in b.tolist()] for one in a.tolist()]
    )


def test_boxes_are_cut_to_whole_pixels():
    boxes = resize_boxes([[10, 20, 499, 374], [0, 0, 1, 1]], (375, 500), (224, 112))
    # 10 * 112 / 500 = 2.24, 20 * 224 / 375 = 11.9, 111.8, 223.4
    assert boxes.tolist() == [[2, 11, 111, 223], [0, 0, 0, 0]]
    assert boxes.dtype == np.int64
    same = resize_boxes([[1.9, 2.2, 3.5, 4.0]], (10, 20), (10, 20))
    assert same.tolist() == [[1, 2, 3, 4]]


def test_a_perfect_map():
    # The box ends at x + w, one px beyond what the map shows.
    found = measure([rectangle(10, 5, 29, 24)], [[[10, 5, 30, 25]]])
    assert shares(found) == (100, 100, 100, 100)
    assert found['max_box_acc_v2'] == 100
    assert found['max_box_acc_threshold'] == 0


@pytest.mark.parametrize('iou, hit', [(8 / 27, 100), (8 / 27 + 1e-9, 0)])
def test_the_pair_of_8_27(iou, hit):
    # 4 x 2 px give the box 0, 0, 4, 2.
    found = measure([rectangle(0, 0, 3, 1)], [[[1, 1, 5, 4]]], ious=(iou,))
    assert found['max_box_acc_v2'] == hit and found['max_box_acc'] == 0


def test_the_box_is_clipped_to_the_map():
    found = measure([rectangle(50, 30, 59, 39)], [[[50, 30, 59, 39]]], ious=(1.0,))
    assert found['max_box_acc_v2_100'] == 100


@pytest.mark.parametrize('value', [0.0, 3.5, -1.0])
def test_constant_maps_give_the_box_0000(value):
    score_map = np.full((40, 60), value, np.float32)
    assert shares(check([score_map], [[[0, 0, 0, 0]]])) == (100,) * 4
    assert shares(check([score_map], [[[0, 0, 1, 0]]])) == (100, 100, 100, 0)
    assert shares(check([score_map], [[[1, 1, 9, 9]]])) == (0,) * 4


def ring():
    """A thick frame with a blob in its hole."""
    score_map = rectangle(2, 2, 57, 37)
    score_map[8:32, 8:52] = 0
    score_map[15:25, 20:35] = 1
    return score_map


@pytest.mark.parametrize(
    'box',
    [
        [20, 15, 35, 25],  # the blob
        [7, 7, 53, 33],
    ],
)  # the inner contour runs over the frame
def test_nested_contours_count_in_v2_alone(box):
    found = measure([ring()], [[box]], ious=(0.95,))
    assert found['max_box_acc_v2'] == 100
    found = check([ring()], [[[20, 15, 35, 25]]])
    assert shares(found) == (0, 100, 100, 100)


def test_the_largest_is_by_area_and_the_first_of_equal_ones():
    score_map = np.maximum(rectangle(2, 2, 11, 11), rectangle(40, 25, 49, 34))
    boxes = [[2, 2, 12, 12]], [[40, 25, 50, 35]]
    found = [check([score_map], [box])['max_box_acc'] for box in boxes]
    assert sorted(found) == [0, 100]
    # A thin diagonal has the largest box and no area.
    score_map = rectangle(2, 25, 11, 34)
    score_map[range(20), range(30, 50)] = 1
    assert check([score_map], [[[30, 0, 50, 20]]])['max_box_acc'] == 0
    assert check([score_map], [[[2, 25, 12, 35]]])['max_box_acc'] == 100


def test_pixels_of_the_threshold_are_below_it():
    score_map = rectangle(5, 5, 50, 35) * 0.4  # level 102 = 255 * 0.4
    score_map[10:15, 10:15] = 1
    found = check([score_map], [[[10, 10, 14, 14]]], 0.1)
    assert found['max_box_acc'] == 100
    assert found['max_box_acc_threshold'] == pytest.approx(0.4)


def test_any_of_several_boxes():
    boxes = [[50, 30, 55, 35], [10, 5, 30, 25], [0, 0, 3, 3]]
    found = check([rectangle(10, 5, 29, 24)], [boxes])
    assert shares(found) == (100,) * 4
    assert shares(check([rectangle(10, 5, 29, 24)], [boxes[::2]])) == (0,) * 4


def test_each_iou_has_its_own_best_threshold():
    wide, narrow = rectangle(0, 0, 39, 29), rectangle(0, 0, 19, 19)
    maps = [wide * 0.3 + narrow * 0.7, narrow * 0.3 + rectangle(0, 0, 9, 9) * 0.7]
    boxes = [[[0, 0, 40, 30]], [[0, 0, 10, 10]]]
    found = check(maps, boxes)
    assert found['max_box_acc'] == 50  # one threshold for both


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
    for _ in range(count):
        corners = rng.rand(rng.randint(1, 4), 2, 2) * size[::-1]
        yield np.sort(corners.astype(int), axis=1).reshape(-1, 4)


@pytest.mark.parametrize('ious', [IOUS, (0.9,), (0.1, 0.6)])
@pytest.mark.parametrize('kind', ['smooth', 'rough', 'pixels', 'line', 'few values'])
def test_against_the_loop(kind, ious):
    size = dict(line=(1, 50), pixels=(24, 17)).get(kind, (31, 44))
    found = check(
        list(random_maps(kind, 4, size, 0)),
        [box.tolist() for box in random_boxes(4, size, 1)],
        ious=ious,
    )
    assert 0 <= found['max_box_acc_v2'] <= 100


@pytest.mark.parametrize('interval', [0.01, 0.07, 1 / 49])
def test_other_intervals(interval):
    maps = list(random_maps('smooth', 3, (31, 44), 2))
    boxes = [box.tolist() for box in random_boxes(3, (31, 44), 3)]
    check(maps, boxes, interval)


def test_at_the_size_of_the_evaluation():
    (score_map,) = random_maps('rough', 1, (224, 224), 4)
    found = check([score_map], [[[20, 30, 150, 180]]])
    assert found['max_box_acc_v2_30'] == 100


@pytest.mark.parametrize(
    'region',
    [
        (0, 10, 12, 25),
        (44, 10, 59, 25),
        (20, 0, 35, 12),
        (20, 28, 35, 39),
        (0, 0, 59, 39),
        (0, 0, 0, 0),
        (59, 39, 59, 39),
    ],
)
def test_evidence_at_the_border(region):
    rng = np.random.RandomState(5)
    score_map = rectangle(*region) * rng.rand(40, 60).astype(np.float32)
    x1, y1, x2, y2 = region
    found = check([score_map], [[[x1, y1, min(x2 + 1, 59), min(y2 + 1, 39)]]])
    assert found['max_box_acc_v2_70'] == 100


def test_boxes_of_outer_contours_are_those_of_the_parts():
    """The loop itself, against another library."""
    for score_map in random_maps('rough', 5, (31, 44), 6):
        image = (wsol.normalized(score_map) * 255).astype(np.uint8)
        for level in (40, 128, 200):
            parts, count = ndimage.label(image > level, np.ones((3, 3)))
            wanted = {
                (x.start, y.start, min(x.stop, 43), min(y.stop, 30))
                for y, x in ndimage.find_objects(parts)
            }
            found = {tuple(box) for _, box in wsol.contour_boxes(image, level)}
            assert count and wanted <= found


def test_two_processes_count_as_one():
    maps = list(random_maps('smooth', 5, (31, 44), 7))
    boxes = list(random_boxes(5, (31, 44), 8))
    whole, first, second = MaxBoxAcc(), MaxBoxAcc(), MaxBoxAcc()
    for i, pair in enumerate(zip(maps, boxes)):
        whole.add(*pair)
        (first if i < 2 else second).add(*pair)
    first.merge(pickle.loads(pickle.dumps(second)))
    assert first.compute() == whole.compute()
    assert first.num_images == 5
    size = len(pickle.dumps(copy.deepcopy(whole)))
    assert size == len(pickle.dumps(MaxBoxAcc()))  # whatever the images


def test_the_map_is_left_as_it_was():
    (score_map,) = random_maps('smooth', 1, (31, 44), 9)
    before = score_map.copy()
    measure([score_map], [[[1, 1, 9, 9]]])
    np.testing.assert_array_equal(score_map, before)


def test_what_is_refused():
    accuracy = MaxBoxAcc()
    for bad in (np.nan, np.inf):
        score_map = rectangle(1, 1, 5, 5)
        score_map[3, 3] = bad
        with pytest.raises(ValueError, match='finite'):
            accuracy.add(score_map, np.array([[0, 0, 1, 1]]))
    with pytest.raises(ValueError, match='boxes are empty'):
        accuracy.add(rectangle(1, 1, 5, 5), np.zeros((0, 4)))
    with pytest.raises(ValueError, match='no image'):
        accuracy.compute()
    for interval in (0, 1, -0.1):
        with pytest.raises(ValueError, match='interval'):
            MaxBoxAcc(interval)
    for ious in ((), (0.0,), (0.5, 1.1)):
        with pytest.raises(ValueError, match='iou_thresholds'):
            MaxBoxAcc(iou_thresholds=ious)
