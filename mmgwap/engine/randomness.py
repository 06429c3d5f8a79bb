"""Randomness that depends on where a run is, not on how it came there."""

import random

import numpy as np
import torch

# What numbers are drawn for.  Part of each stream, so that no two share one.
STEP, DATA, WORKER = 1, 2, 3


def seed_all(*stream: int) -> None:
    """Seed Python's, NumPy's and torch's generators, of all devices.

    Args:
        stream (int): non-negative numbers, such as seed, rank, purpose and
            iteration; others give independent numbers
            (``numpy.random.SeedSequence``, which takes missing ones for 0).
    """
    words = np.random.SeedSequence(stream).generate_state(4).tolist()
    random.seed(words[0])
    np.random.seed(words[1])
    torch.manual_seed(words[2] << 32 | words[3])
