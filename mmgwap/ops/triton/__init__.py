"""Triton kernels of the operators, and the choice between them and PyTorch.

The operators themselves are in :mod:`mmgwap.ops`; nothing else needs these.
"""

from .dispatch import triton_disabled, triton_interpreted, use_triton

__all__ = ['triton_disabled', 'triton_interpreted', 'use_triton']
