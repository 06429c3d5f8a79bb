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


def test_against_scipy_on_random_maps():
    rng = np.random.RandomState(0)
    for size in ((1, 1), (1, 9), (13, 17), (40, 31)):
        for threshold in (0.0, 0.2, 0.7):
            score_map = ndimage.gaussian_filter(rng.randn(*size), 1.5)
            low, high = score_map.min(), score_map.max()
            mask = score_map - low > threshold * (high - low)
            parts, count = ndimage.label(mask, np.ones((3, 3)))
            boxes = boxes_from_map(score_map, threshold, 'all')
            wanted = {
                (columns.start, rows.start, columns.stop, rows.stop)
                for rows, columns in ndimage.find_objects(parts)
            }
            assert {tuple(box) for box in boxes.tolist()} == wanted
            assert len(boxes) == count
            if count:
                areas = np.bincount(parts.ravel())[1:]
                rows, columns = ndimage.find_objects(parts)[areas.argmax()]
                assert boxes_from_map(score_map, threshold).tolist() == [
                    [columns.start, rows.start, columns.stop, rows.stop]
                ]


def test_corners_connect():
    score_map = np.eye(4)
    assert boxes_from_map(score_map).tolist() == [[0, 0, 4, 4]]


def test_first_of_equal_areas():
    score_map = np.array([[0, 1, 0, 1, 0]])
    assert boxes_from_map(score_map).tolist() == [[1, 0, 2, 1]]


@pytest.mark.parametrize('value', [-3.0, 0.0, 0.7])
def test_constant_map_has_no_box(value):
    assert boxes_from_map(np.full((5, 6), value)).shape == (0, 4)


def test_shift_and_scale_change_nothing():
    score_map = np.random.RandomState(0).randint(0, 256, (9, 9)) / 256
    wanted = boxes_from_map(score_map, which='all')
    for scaled in (score_map - 8, score_map * 64, -5 + score_map / 4):
        assert np.array_equal(boxes_from_map(scaled, which='all'), wanted)


def test_normalize_map():
    one = normalize_map(np.array([[-2.0, 2.0], [0.0, 1.0]]))
    assert one.tolist() == [[0, 1], [0.5, 0.75]]
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
def test_invalid_maps(score_map, message):
    with pytest.raises(ValueError, match=message):
        boxes_from_map(score_map)


@pytest.mark.parametrize(
    'options', [dict(threshold=1.0), dict(threshold=-0.1), dict(which='first')]
)
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match=str(*options.values())):
        boxes_from_map(np.eye(3), **options)
