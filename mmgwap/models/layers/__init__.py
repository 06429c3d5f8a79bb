from .global_pool import (ClassAgnosticGWAP, ClassSpecificGWAP, GlobalAvgPool,
                          GlobalMaxPool, LogSumExpPool)

__all__ = [
    'ClassAgnosticGWAP', 'ClassSpecificGWAP', 'GlobalAvgPool',
    'GlobalMaxPool', 'LogSumExpPool'
]
