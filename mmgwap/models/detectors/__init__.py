from .gradient_maps import gradient_maps
from .image_classifier import ImageClassifier
from .multi_task import MultiTaskDetector, MultiTaskTTAModel
from .rfcn import RFCN

__all__ = ['ImageClassifier', 'MultiTaskDetector', 'MultiTaskTTAModel', 'RFCN', 'gradient_maps']
