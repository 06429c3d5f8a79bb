from .convert_lip import convert_to_lip
from .global_pool import (
    ClassAgnosticGWAP,
    ClassSpecificGWAP,
    GlobalAvgPool,
    GlobalMaxPool,
    LogSumExpPool,
)
from .lip import BottleneckLIP, BottleneckLogit, SharedBottleneckLIP, SimplifiedLIP, SoftGate

__all__ = [
    'BottleneckLIP',
    'BottleneckLogit',
    'ClassAgnosticGWAP',
    'ClassSpecificGWAP',
    'GlobalAvgPool',
    'GlobalMaxPool',
    'LogSumExpPool',
    'SharedBottleneckLIP',
    'SimplifiedLIP',
    'SoftGate',
    'convert_to_lip',
]
