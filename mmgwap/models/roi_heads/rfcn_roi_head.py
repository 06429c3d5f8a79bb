"""R-FCN's RoI head: Dai et al., NIPS 2016, arXiv 1605.06409, section 2."""

from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from torch import Tensor

from mmgwap.registry import MODELS


@MODELS.register_module()
class RFCNRoIHead(StandardRoIHead):
    """RoI head that convolves first and crops last.

    The box head runs once over the last feature map; what the rest of mmdet's
    RoI head then takes for features are the position-sensitive maps, and a RoI
    costs no more than a vote on them.  An OHEM sampler, which scores every RoI
    before it chooses, costs no second pass over the image either.

    Args:
        bbox_roi_extractor (dict): ``PSRoIExtractor``.
        bbox_head (dict): ``RFCNBBoxHead`` with the same ``output_size``.
        train_cfg, test_cfg, init_cfg: as for ``StandardRoIHead``.

    Raises:
        ValueError: if a mask head or shared head is asked for, or extractor
            and box head differ in ``output_size``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.with_mask or self.with_shared_head:
            raise ValueError(
                'RFCNRoIHead has neither mask head nor shared '
                'head: remove mask_head and shared_head'
            )
        sizes = (self.bbox_roi_extractor.output_size, self.bbox_head.output_size)
        if sizes[0] != sizes[1]:
            raise ValueError(
                'output_size must be the same in bbox_roi_extractor and '
                f'bbox_head, got {sizes[0]} and {sizes[1]}'
            )

    def forward(
        self,
        x: tuple[Tensor],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList = None,
    ) -> tuple:
        """Scores (K, classes+1) and deltas (K, 4 or classes*4) of all RoIs."""
        return super().forward(self.bbox_head(x[-1]), rpn_results_list, batch_data_samples)

    def loss(
        self, x: tuple[Tensor], rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> dict:
        """Losses of the sampled RoIs; arguments as in ``StandardRoIHead``."""
        return super().loss(self.bbox_head(x[-1]), rpn_results_list, batch_data_samples)

    def predict(
        self,
        x: tuple[Tensor],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        rescale: bool = False,
    ) -> InstanceList:
        """Detections of each image; arguments as in ``StandardRoIHead``."""
        return super().predict(self.bbox_head(x[-1]), rpn_results_list, batch_data_samples, rescale)

    def _bbox_forward(self, maps: tuple[Tensor], rois: Tensor) -> dict:
        """Vote.

        Args:
            maps (tuple[Tensor]): score and box maps, of ``RFCNBBoxHead``.
            rois (Tensor): (K, 5), rows of (batch index, x1, y1, x2, y2) in
                pixels.

        Returns:
            dict: ``cls_score`` (K, classes+1) before softmax, ``bbox_pred``
            (K, 4) or (K, classes*4).
        """
        cls_score, bbox_pred = (self.bbox_roi_extractor(one, rois) for one in maps)
        return dict(cls_score=cls_score, bbox_pred=bbox_pred)
