"""R-FCN: Dai et al., NIPS 2016, arXiv 1605.06409."""

from mmdet.models.detectors import TwoStageDetector
from torch import nn

from mmgwap.registry import MODELS


@MODELS.register_module()
class RFCN(TwoStageDetector):
    """Region-based fully convolutional network.

    A two-stage detector whose RPN reads the first feature map of the backbone
    (res4) and whose RoI head reads the last (res5, dilated), both of stride 16
    in the paper.  A backbone or neck with a single output serves both.

    Args:
        backbone, rpn_head, roi_head, neck, train_cfg, test_cfg,
            data_preprocessor, init_cfg: as for mmdet's ``FasterRCNN``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        # The detector hands the same features to both heads.
        if self.with_rpn:
            self.rpn_head.register_forward_pre_hook(_first_level)


def _first_level(rpn_head: nn.Module, args: tuple) -> tuple:
    """Cut the RPN's multi-level input down to its first level."""
    feats, *rest = args
    return (feats[:1], *rest)
