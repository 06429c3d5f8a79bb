from .gradient_maps import gradient_maps
from .image_classifier import ImageClassifier
from .label_guided_teacher import LabelGuidedTeacher
from .multi_task import MultiTaskDetector, MultiTaskTTAModel
from .rfcn import RFCN

__all__ = [
    'ImageClassifier',
    'LabelGuidedTeacher',
    'MultiTaskDetector',
    'MultiTaskTTAModel',
    'RFCN',
    'gradient_maps',
]
