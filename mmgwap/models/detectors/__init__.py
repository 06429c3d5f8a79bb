from .multi_task import MultiTaskDetector
from .rfcn import RFCN

__all__ = ['MultiTaskDetector', 'RFCN']
