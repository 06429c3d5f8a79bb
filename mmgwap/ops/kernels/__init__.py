"""Triton kernels of the operators, and the choice between them and PyTorch.

The operators themselves are in :mod:`mmgwap.ops`; nothing else needs these.
"""

from .selection import kernels_interpreted, kernels_off, use_kernels

__all__ = ['kernels_interpreted', 'kernels_off', 'use_kernels']
