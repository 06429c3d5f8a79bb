"""Extraction of RoI scores and box deltas from position-sensitive maps, by voting.

R-FCN: Dai et al., NIPS 2016, arXiv 1605.06409, section 2.
"""

from collections.abc import Sequence
from typing import Union

from mmengine.model import BaseModule
from torch import Tensor

from mmgwap.ops import PSRoIVote
from mmgwap.registry import MODELS


@MODELS.register_module()
class PSRoIExtractor(BaseModule):
    """Vote over the position-sensitive bins of each RoI.

    Args:
        output_size (int): number of bins on each side, k in the paper. Must equal the box head's.
        featmap_stride (int): stride of the maps, in pixels.
        mode (str): 'pool' for the paper's quantised bins, 'align' for bilinear samples.
        sampling_ratio (int): samples along each side of a bin in mode 'align'.
        init_cfg (dict, optional): config of ``BaseModule``.

    Raises:
        ValueError: if ``mode`` is unknown.
    """

    def __init__(
        self,
        output_size: int = 7,
        featmap_stride: int = 16,
        mode: str = 'pool',
        sampling_ratio: int = 2,
        init_cfg: dict = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if mode not in ('pool', 'align'):
            raise ValueError(f"PSRoIExtractor: mode must be 'pool' or 'align', got {mode!r:.80}")
        self.vote = PSRoIVote(output_size, 1 / featmap_stride, mode, sampling_ratio)

    @property
    def output_size(self) -> int:
        return self.vote.output_size

    def forward(
        self, maps: Union[Tensor, Sequence[Tensor]], rois: Tensor
    ) -> Union[Tensor, tuple[Tensor, ...]]:
        """Vote on one map, or on several maps of the same size.

        Args:
            maps (Tensor | Sequence[Tensor]): (B, C*k*k, H, W), with channel
                ``(c_out * k + row) * k + col``, or (B, C, k*k, H, W).
            rois (Tensor): (K, 5), rows of (batch index, x1, y1, x2, y2) in pixels.

        Returns:
            Tensor | tuple[Tensor]: (K, C) for each map.

        Raises:
            ValueError: if k*k does not divide the channels, or a shape is wrong.
        """
        return self.vote(maps, rois)
