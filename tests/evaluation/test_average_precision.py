import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mmgwap.evaluation.functional import average_precision


def loop(scores, positive):
    """Average the precision at the score of each positive."""
    total = 0
    for score, is_positive in zip(scores, positive):
        if is_positive:
            above = scores >= score
            total += (positive & above).sum() / above.sum()
    return total / positive.sum()


@pytest.mark.parametrize('ties', [False, True])
def test_matches_a_loop_and_scikit_learn(ties):
    rng = np.random.RandomState(0)
    for count in (1, 2, 5, 50, 400):
        for _ in range(10):
            scores = rng.rand(count).round(1 if ties else 9)
            positive = rng.rand(count) < 0.3
            positive[rng.randint(count)] = True
            value = average_precision(scores, positive)
            assert abs(value - loop(scores, positive)) < 1e-12
            assert abs(value - average_precision_score(positive, scores)) < 1e-12


def test_is_nan_without_positives():
    assert np.isnan(average_precision(np.ones(3), np.zeros(3, bool)))
    assert np.isnan(average_precision(np.ones(0), np.zeros(0, bool)))


def test_refuses_nan():
    with pytest.raises(ValueError, match='NaN'):
        average_precision(np.array([0.1, np.nan]), np.array([True, False]))
