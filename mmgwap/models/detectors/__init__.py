from .multi_task import MultiTaskDetector
from .multi_task_tta import MultiTaskTTAModel
from .rfcn import RFCN

__all__ = ['MultiTaskDetector', 'MultiTaskTTAModel', 'RFCN']
