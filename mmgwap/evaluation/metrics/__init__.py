from .multi_label import MultiLabelMetric
from .wsol import WSOLMetric

__all__ = ['MultiLabelMetric', 'WSOLMetric']
