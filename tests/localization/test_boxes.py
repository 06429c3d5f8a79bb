import numpy as np
import pytest
from scipy import ndimage

from mmgwap.localization import boxes_from_map, normalize_map


def test_rule_of_the_cam_paper():
    score_map = np.zeros((10, 20), np.float32)
    score_map[2:4, 3:9] = 0.5  # the largest component
    score_map[7, 15] = 1.0  # the peak
    score_map[5:9, 0:4] = 0.2  # exactly 20 % of the maximum, so not above
    boxes = boxes_from_map(score_map)
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[3, 2, 9, 4]]
    assert boxes_from_map(score_map, which='all').tolist() == [[3, 2, 9, 4], [15, 7, 16, 8]]
    assert boxes_from_map(score_map, 0.6).tolist() == [[15, 7, 16, 8]]
    assert boxes_from_map(score_map, 0.19).tolist() == [[0, 5, 4, 9]]


def test_matches_scipy_on_random_maps():
    rng = np.random.RandomState(0)
    for size in ((1, 1), (1, 9), (13, 17), (40, 31)):
        for threshold in (0.0, 0.2, 0.7):
            score_map = ndimage.gaussian_filter(rng.randn(*size), 1.5)
            low, high = score_map.min(), score_map.max()
            mask = score_map - low > threshold * (high - low)
            parts, count = ndimage.label(mask, np.ones((3, 3)))
            boxes = boxes_from_map(score_map, threshold, 'all')
            expected = [
                [columns.start, rows.start, columns.stop, rows.stop]
                for rows, columns in ndimage.find_objects(parts)
            ]
            assert sorted(boxes.tolist()) == sorted(expected)
            if count:
                largest = np.bincount(parts.ravel())[1:].argmax()
                assert boxes_from_map(score_map, threshold).tolist() == [expected[largest]]


@pytest.mark.parametrize(
    'score_map, boxes',
    [
        (np.eye(4), [[0, 0, 4, 4]]),  # pixels connect at corners
        ([[0, 1, 0, 1, 0]], [[1, 0, 2, 1]]),  # the first of equal areas
        (np.full((5, 6), 0.7), []),
        (np.full((5, 6), -3.0), []),
    ],
)
def test_largest_box(score_map, boxes):
    assert boxes_from_map(np.array(score_map)).tolist() == boxes


def test_shift_and_scale_do_not_matter():
    score_map = np.random.RandomState(0).randint(0, 256, (9, 9)) / 256
    expected = boxes_from_map(score_map, which='all')
    for scaled in (score_map - 8, score_map * 64):
        assert np.array_equal(boxes_from_map(scaled, which='all'), expected)


def test_normalize_map():
    scaled = normalize_map(np.array([[-2.0, 2.0], [0.0, 1.0]]))
    assert scaled.tolist() == [[0, 1], [0.5, 0.75]]
    big = np.float32(3e38) * np.array([[-1, 1, 0]], np.float32)
    assert normalize_map(big).tolist() == [[0, 1, 0.5]]
    tiny = np.array([[0, np.finfo(np.float32).smallest_subnormal]])
    assert normalize_map(tiny.astype(np.float32)).tolist() == [[0, 1]]
    assert normalize_map(np.zeros((0, 3))).shape == (0, 3)
    assert normalize_map(np.array([[0, 255]], np.uint8)).dtype == np.float32


@pytest.mark.parametrize(
    'score_map, message',
    [
        (np.array([[0, np.nan]]), '1 values'),
        (np.array([[np.inf]]), 'finite'),
        (np.zeros((1, 2, 3)), r'\(1, 2, 3\)'),
    ],
)
def test_refuses_invalid_maps(score_map, message):
    with pytest.raises(ValueError, match=message):
        boxes_from_map(score_map)


@pytest.mark.parametrize(
    'options', [dict(threshold=1.0), dict(threshold=-0.1), dict(which='first')]
)
def test_refuses_options_out_of_range(options):
    with pytest.raises(ValueError, match=str(*options.values())):
        boxes_from_map(np.eye(3), **options)
