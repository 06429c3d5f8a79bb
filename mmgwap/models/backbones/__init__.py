from .alexnet import AlexNet
from .googlenet import GoogLeNet
from .lip_densenet import LIPDenseNet
from .lip_resnet import LIPResNet
from .vgg import VGG

__all__ = ['AlexNet', 'GoogLeNet', 'LIPDenseNet', 'LIPResNet', 'VGG']
