"""R-FCN's RoI head: Dai et al., NIPS 2016, arXiv 1605.06409, section 2."""

from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from torch import Tensor

from mmgwap.registry import MODELS


@MODELS.register_module()
class RFCNRoIHead(StandardRoIHead):
    """RoI head that convolves first and crops last.

    The box head runs once over the last feature map. The rest of mmdet's RoI head takes the
    position-sensitive maps as its features, so an RoI costs no more than a vote on the maps. An
    OHEM sampler, which scores every RoI before it chooses, needs no second pass over the image.

    Args:
        bbox_roi_extractor (dict): config of a ``PSRoIExtractor``.
        bbox_head (dict): config of an ``RFCNBBoxHead`` with the same ``output_size``.
        train_cfg, test_cfg, init_cfg: as for ``StandardRoIHead``.

    Raises:
        ValueError: if there is a mask head or shared head, or extractor and box head differ in
            ``output_size``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.with_mask or self.with_shared_head:
            raise ValueError(
                'RFCNRoIHead supports neither a mask head nor a shared head: '
                'remove mask_head and shared_head'
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
        """Return scores (K, classes+1) and deltas (K, 4 or classes*4) of all RoIs."""
        return super().forward(self.bbox_head(x[-1]), rpn_results_list, batch_data_samples)

    def loss(
        self, x: tuple[Tensor], rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> dict:
        """Compute the losses of the sampled RoIs; arguments as in ``StandardRoIHead``."""
        return super().loss(self.bbox_head(x[-1]), rpn_results_list, batch_data_samples)

    def predict(
        self,
        x: tuple[Tensor],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        rescale: bool = False,
    ) -> InstanceList:
        """Return the detections of each image; arguments as in ``StandardRoIHead``."""
        return super().predict(self.bbox_head(x[-1]), rpn_results_list, batch_data_samples, rescale)

    def _bbox_forward(self, maps: tuple[Tensor], rois: Tensor) -> dict:
        """Vote on score and box maps, whose bins are computed once.

        Args:
            maps (tuple[Tensor]): score and box maps from ``RFCNBBoxHead``.
            rois (Tensor): (K, 5), rows of (batch index, x1, y1, x2, y2) in pixels.

        Returns:
            dict: ``cls_score`` (K, classes+1) before softmax, ``bbox_pred``
            (K, 4) or (K, classes*4).
        """
        cls_score, bbox_pred = self.bbox_roi_extractor(maps, rois)
        return dict(cls_score=cls_score, bbox_pred=bbox_pred)
