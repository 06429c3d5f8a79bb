"""Triton kernels of the operators in :mod:`mmgwap.ops`, and the choice between them and PyTorch."""

from .dispatch import first_use_matches, triton_disabled, triton_interpreted, use_triton

__all__ = ['first_use_matches', 'triton_disabled', 'triton_interpreted', 'use_triton']
