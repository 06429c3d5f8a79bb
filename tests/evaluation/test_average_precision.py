import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mmgwap.evaluation.functional import average_precision


def loop(scores, positive):
    """Mean over the positives of the precision at their score."""
    total = 0
    for score, is_positive in zip(scores, positive):
        if is_positive:
            above = scores >= score
            total += (positive & above).sum() / above.sum()
    return total / positive.sum()


@pytest.mark.parametrize('ties', [False, True])
def test_random_rankings(ties):
    rng = np.random.RandomState(0)
    for count in (1, 2, 5, 50, 400):
        for _ in range(10):
            scores = rng.rand(count)
            if ties:
                scores = scores.round(1)
            positive = rng.rand(count) < 0.3
            positive[rng.randint(count)] = True
            value = average_precision(scores, positive)
            assert abs(value - loop(scores, positive)) < 1e-12
            assert abs(value - average_precision_score(positive, scores)) < 1e-12


def test_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    assert average_precision(scores, np.array([1, 1, 0, 0], bool)) == 1
    assert average_precision(scores, np.array([0, 1, 0, 1], bool)) == 0.5
    assert average_precision(np.ones(4), np.array([0, 1, 0, 0], bool)) == 0.25


def test_nothing_positive_or_nothing_at_all():
    assert np.isnan(average_precision(np.ones(3), np.zeros(3, bool)))
    assert np.isnan(average_precision(np.ones(0), np.zeros(0, bool)))


def test_nan_is_refused():
    with pytest.raises(ValueError, match='NaN'):
        average_precision(np.array([0.1, np.nan]), np.array([True, False]))
