from .lip_densenet import LIPDenseNet
from .lip_resnet import LIPResNet

__all__ = ['LIPDenseNet', 'LIPResNet']
