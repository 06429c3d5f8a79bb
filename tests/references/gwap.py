"""GWAP and log-sum-exp pooling with loops over positions."""

import math

import numpy as np


def softmax(values: list) -> list:
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return [power / sum(powers) for power in powers]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def weighted(values: list, weights: list) -> float:
    return sum(value * weight for value, weight in zip(values, weights))


def class_agnostic(features: np.ndarray, attention: np.ndarray) -> tuple:
    """Return pooled values and weights of features (C, N) and attention (N, )."""
    powers = [math.exp(sigmoid(m)) for m in attention]
    weights = [power / sum(powers) for power in powers]
    return [weighted(row, weights) for row in features], weights


def class_specific(scores: np.ndarray) -> tuple:
    """Return logits, attention and weights of scores (K, N)."""
    classes, positions = scores.shape
    attention = np.empty_like(scores)
    for n in range(positions):
        competition = softmax(list(scores[:, n]))
        for k in range(classes):
            attention[k, n] = competition[k] * sigmoid(scores[k, n])
    weights = [softmax(list(row)) for row in attention]
    logits = [weighted(row, alpha) for row, alpha in zip(scores, weights)]
    return logits, attention, weights


def log_sum_exp(values: list, r: float) -> float:
    return math.log(sum(math.exp(r * x) for x in values) / len(values)) / r
