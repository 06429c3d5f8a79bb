from .multi_label import MultiLabelMetric
from .submission import CocoSubmissionMetric, VOCSubmissionMetric
from .wsol import WSOLMetric

__all__ = ['CocoSubmissionMetric', 'MultiLabelMetric', 'VOCSubmissionMetric', 'WSOLMetric']
