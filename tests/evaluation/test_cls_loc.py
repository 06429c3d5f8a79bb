"""Errors of ILSVRC's localization task."""

import numpy as np
import pytest

from mmgwap.evaluation.functional import cls_loc_error, is_localized, top_k_error

from ..references.wsol import iou

TRUTH = np.array([[0, 0, 9, 9], [20, 20, 29, 29]])
RIGHT, WRONG = [20, 20, 29, 29], [40, 40, 49, 49]


@pytest.mark.parametrize(
    'label, top1, top5', [(3, False, False), (5, True, False), (9, True, True)]
)
def test_classes(label, top1, top5):
    ranking = [3, 1, 4, 0, 5, 9]
    assert top_k_error(ranking, label, 1) is top1 and top_k_error(ranking, label, 5) is top5


def test_fewer_classes_than_guesses():
    assert [top_k_error([2, 0], 0, k) for k in (1, 5)] == [True, False]


@pytest.mark.parametrize(
    'box, right', [(RIGHT, True), ([0, 0, 9, 4], True), ([0, 0, 9, 3], False), (WRONG, False)]
)
def test_boxes(box, right):
    # 10 x 5 of 10 x 10 px give an IoU of exactly 0.5.
    assert is_localized(np.array([WRONG, box]), TRUTH) is right


@pytest.mark.parametrize(
    'labels, boxes, top1, top5',
    [
        ([7], [RIGHT], False, False),
        ([7, 7], [WRONG, RIGHT], True, False),
        ([1, 7], [RIGHT, RIGHT], True, False),
        ([7, 1], [WRONG, RIGHT], True, True),
        ([1, 2, 3, 4, 5, 7], [WRONG] * 5 + [RIGHT], True, True),  # sixth guess
        ([], [], True, True),
    ],
)
def test_guesses(labels, boxes, top1, top5):
    boxes = np.array(boxes, float).reshape(-1, 4)
    assert cls_loc_error(np.array(labels), boxes, 7, TRUTH, 1) is top1
    assert cls_loc_error(np.array(labels), boxes, 7, TRUTH) is top5


def test_matches_a_loop():
    rng = np.random.RandomState(0)
    results = set()
    for _ in range(60):
        labels = rng.randint(0, 4, rng.randint(0, 8))
        boxes, truth = (
            np.sort(rng.randint(0, 12, (n, 2, 2)), axis=1).reshape(-1, 4) for n in (len(labels), 2)
        )
        expected = not any(
            label == 2 and max(iou(box, true_box) for true_box in truth) >= 0.5
            for label, box in list(zip(labels, boxes))[:5]
        )
        assert cls_loc_error(labels, boxes, 2, truth) is expected
        results.add(expected)
    assert results == {True, False}


def test_refuses_a_label_without_a_box():
    with pytest.raises(ValueError, match='2 labels, but 1 boxes'):
        cls_loc_error([1, 2], [RIGHT], 1, TRUTH)
