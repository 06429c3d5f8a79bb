"""Checkpoints of trainings, as tests read them."""

import torch

from mmgwap.checkpoint import allow_training_state


def read_checkpoint(path) -> dict:
    with allow_training_state():
        return torch.load(path, weights_only=True)
