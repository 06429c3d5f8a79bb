from .pseudo_boxes import PseudoBoxStatistics, ScoreThresholds, select_boxes
from .rfcn_ohem_sampler import RFCNOHEMSampler

__all__ = ['PseudoBoxStatistics', 'RFCNOHEMSampler', 'ScoreThresholds', 'select_boxes']
