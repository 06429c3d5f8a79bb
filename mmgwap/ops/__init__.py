"""Tensor operators: stateless functions and their module forms."""
from .ps_roi_align import PSRoIAlign, ps_roi_align
from .ps_roi_pool import PSRoIPool, ps_roi_pool
from .ps_roi_vote import PSRoIVote, ps_roi_vote

__all__ = [
    'PSRoIAlign', 'PSRoIPool', 'PSRoIVote', 'ps_roi_align', 'ps_roi_pool',
    'ps_roi_vote'
]
