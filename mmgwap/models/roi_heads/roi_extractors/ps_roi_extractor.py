"""RoI scores and box deltas from position-sensitive maps, by voting.

R-FCN: Dai et al., NIPS 2016, arXiv 1605.06409, section 2.
"""

from mmengine.model import BaseModule
from torch import Tensor

from mmgwap.argument_checks import check_number, check_whole
from mmgwap.ops import PSRoIVote
from mmgwap.registry import MODELS


@MODELS.register_module()
class PSRoIExtractor(BaseModule):
    """Vote over the position-sensitive bins of each RoI.

    Args:
        output_size (int): bins on each side, k in the paper.  The box head
            must have the same.
        featmap_stride (int): stride of the maps, in pixels.
        mode (str): 'pool', the paper's quantised bins, or 'align', bilinear
            samples.
        sampling_ratio (int): samples along each side of a bin, for 'align'.
        init_cfg (dict, optional): for ``BaseModule``.

    Raises:
        ValueError: if an argument is outside of its range.
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
        check_whole(output_size, 'PSRoIExtractor: output_size', most=100)
        check_whole(sampling_ratio, 'PSRoIExtractor: sampling_ratio', most=100)
        check_number(featmap_stride, 'PSRoIExtractor: featmap_stride', 1, 10**6)
        if mode not in ('pool', 'align'):
            raise ValueError(f"PSRoIExtractor: mode must be 'pool' or 'align', got {mode!r:.80}")
        self.vote = PSRoIVote(output_size, 1 / featmap_stride, mode, sampling_ratio)

    @property
    def output_size(self) -> int:
        return self.vote.output_size

    def forward(self, maps: Tensor, rois: Tensor) -> Tensor:
        """Vote.

        Args:
            maps (Tensor): (B, C*k*k, H, W), with channel
                ``(c_out * k + row) * k + col``, or (B, C, k*k, H, W).
            rois (Tensor): (K, 5), rows of (batch index, x1, y1, x2, y2) in
                pixels.

        Returns:
            Tensor: (K, C).

        Raises:
            ValueError: if k*k does not divide the channels, or a shape is
                wrong.
        """
        return self.vote(maps, rois)
