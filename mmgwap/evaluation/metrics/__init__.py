from .coco_submission import CocoSubmissionMetric
from .multi_label import MultiLabelMetric
from .voc_submission import VOCSubmissionMetric
from .wsol import WSOLMetric

__all__ = ['CocoSubmissionMetric', 'MultiLabelMetric', 'VOCSubmissionMetric', 'WSOLMetric']
