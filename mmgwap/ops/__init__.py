"""Tensor operators: stateless functions and their module forms."""

from .gwap import class_agnostic_gwap, class_specific_attention, class_specific_gwap
from .lip import LIP2d, lip2d
from .ps_roi_align import PSRoIAlign, ps_roi_align
from .ps_roi_pool import PSRoIPool, ps_roi_pool
from .ps_roi_vote import PSRoIVote, ps_roi_vote

__all__ = [
    'LIP2d',
    'PSRoIAlign',
    'PSRoIPool',
    'PSRoIVote',
    'class_agnostic_gwap',
    'class_specific_attention',
    'class_specific_gwap',
    'lip2d',
    'ps_roi_align',
    'ps_roi_pool',
    'ps_roi_vote',
]
