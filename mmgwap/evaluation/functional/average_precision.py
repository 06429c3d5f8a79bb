"""Average precision of a ranking."""

import numpy as np


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Mean of the precision over the recall, without interpolation.

    ``sum_n (R_n - R_{n-1}) P_n`` over the distinct scores, from the highest:
    entries of the same score are ranked together, so that their order does not
    matter.

    Args:
        scores (np.ndarray): (N, ).
        positive (np.ndarray): (N, ) bool.

    Returns:
        float: in [0, 1], NaN if nothing is positive.

    Raises:
        ValueError: if a score is NaN.
    """
    if np.isnan(scores).any():
        raise ValueError('average_precision: a score is NaN')
    if not positive.any():
        return float('nan')
    order = np.argsort(-scores, kind='stable')
    scores, positive = scores[order], positive[order]
    last = np.append(scores[1:] != scores[:-1], True)
    hits = positive.cumsum()[last]
    precision = hits / (np.flatnonzero(last) + 1)
    recall = hits / hits[-1]
    return float((np.diff(recall, prepend=0) * precision).sum())
