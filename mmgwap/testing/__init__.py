"""Tiny models, data and runs, for tests and for trying things out."""
from .tiny import tiny_rfcn, tiny_rfcn_run

__all__ = ['tiny_rfcn', 'tiny_rfcn_run']
