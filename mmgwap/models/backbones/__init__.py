from .alexnet import AlexNet
from .efficientnet_lite import EfficientNetLite
from .googlenet import GoogLeNet
from .lip_densenet import LIPDenseNet
from .lip_resnet import LIPResNet
from .vgg import VGG

__all__ = ['AlexNet', 'EfficientNetLite', 'GoogLeNet', 'LIPDenseNet', 'LIPResNet', 'VGG']
