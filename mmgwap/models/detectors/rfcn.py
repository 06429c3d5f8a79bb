"""R-FCN: Dai et al., NIPS 2016, arXiv 1605.06409."""

import copy

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from torch import Tensor

from mmgwap.registry import MODELS


@MODELS.register_module()
class RFCN(TwoStageDetector):
    """Region-based fully convolutional network.

    A two-stage detector whose RPN reads the first feature map (res4) and whose RoI head reads the
    last (res5, dilated), both of stride 16 in the paper. A backbone or neck with a single output
    serves both.

    mmdet's ``TwoStageDetector`` passes all feature maps to both stages. Its ``loss``, ``predict``
    and ``_forward`` are therefore written out here, with ``x[:1]`` for the RPN.

    Args:
        backbone, rpn_head, roi_head, neck, train_cfg, test_cfg, data_preprocessor, init_cfg: as for
            mmdet's ``FasterRCNN``.
    """

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """Compute the losses of the RPN and of the RoI head.

        Args:
            batch_inputs (Tensor): (B, 3, H, W), preprocessed.
            batch_data_samples (list[DetDataSample]): ground truth of each image.
        """
        x = self.extract_feat(batch_inputs)
        losses = {}
        if self.with_rpn:
            losses, proposals = self._rpn_loss(x[:1], batch_data_samples)
        else:
            proposals = [sample.proposals for sample in batch_data_samples]
        losses.update(self.roi_head.loss(x, proposals, batch_data_samples))
        return losses

    def _rpn_loss(self, x: tuple[Tensor], batch_data_samples: SampleList) -> tuple:
        """Compute the losses and the proposals of the RPN, for which each box is of class 0."""
        samples = copy.deepcopy(batch_data_samples)
        for sample in samples:
            sample.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
        losses, proposals = self.rpn_head.loss_and_predict(
            x, samples, proposal_cfg=self.train_cfg.get('rpn_proposal', self.test_cfg.rpn)
        )
        for name in list(losses):
            if 'loss' in name and 'rpn' not in name:  # else the RoI head's losses replace them
                losses[f'rpn_{name}'] = losses.pop(name)
        return losses, proposals

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Detect objects.

        Args:
            batch_inputs (Tensor): (B, 3, H, W), preprocessed.
            batch_data_samples (list[DetDataSample]): metainfo and, optionally, ``proposals`` of
                each image.
            rescale (bool): whether to return boxes in the original image.

        Returns:
            list[DetDataSample]: the data samples with ``pred_instances``.
        """
        x = self.extract_feat(batch_inputs)
        proposals = self._proposals(x, batch_data_samples)
        results = self.roi_head.predict(x, proposals, batch_data_samples, rescale=rescale)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple:
        """Return the raw outputs of the RoI head."""
        x = self.extract_feat(batch_inputs)
        proposals = self._proposals(x, batch_data_samples)
        return (self.roi_head.forward(x, proposals, batch_data_samples),)

    def _proposals(self, x: tuple[Tensor], batch_data_samples: SampleList) -> InstanceList:
        """Return the proposals in the data samples, or else those of the RPN."""
        if batch_data_samples[0].get('proposals', None) is not None:
            return [sample.proposals for sample in batch_data_samples]
        return self.rpn_head.predict(x[:1], batch_data_samples, rescale=False)
