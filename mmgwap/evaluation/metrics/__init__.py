from .multi_label import MultiLabelMetric

__all__ = ['MultiLabelMetric']
