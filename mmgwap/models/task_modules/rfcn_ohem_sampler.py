"""Online hard example mining as R-FCN uses it.

Shrivastava et al., CVPR 2016, arXiv 1604.03540; Dai et al., R-FCN, arXiv 1605.06409, section 2: all
RoIs of an image are scored, and the B RoIs of highest loss train. mmdet's ``OHEMSampler`` differs:
it mines positives and negatives separately, with a quota, by the classification loss alone.
"""

import torch
from mmdet.models.task_modules import AssignResult, SamplingResult
from mmdet.structures.bbox import bbox2roi, cat_boxes
from mmengine.structures import InstanceData
from torch import Tensor

from mmgwap.registry import TASK_UTILS


@TASK_UTILS.register_module()
class RFCNOHEMSampler:
    """Keep the RoIs with the highest sum of classification and box loss.

    Args:
        num (int): number of RoIs to keep in each image, 128 in the paper.
        context (RFCNRoIHead): the RoI head, passed by mmdet.
        add_gt_as_proposals (bool): whether to add the ground-truth boxes to the RoIs.
    """

    def __init__(self, num: int, context, add_gt_as_proposals: bool = True) -> None:
        self.num = num
        self.context = context
        self.add_gt_as_proposals = add_gt_as_proposals

    def sample(
        self,
        assign_result: AssignResult,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        feats: list,
    ) -> SamplingResult:
        """Choose the hard RoIs of one image.

        RoIs that the assigner ignores are neither positive nor negative and are never chosen.

        Args:
            assign_result (AssignResult): assignment of the N proposals.
            pred_instances (InstanceData): proposals, ``priors`` (N, 4).
            gt_instances (InstanceData): ground truth, ``bboxes`` (G, 4) and ``labels`` (G,).
            feats (list[Tensor]): position-sensitive maps of the image, with batch size 1.

        Returns:
            SamplingResult: ``num`` RoIs, or all RoIs if there are fewer.
        """
        priors = pred_instances.priors
        gt_bboxes = gt_instances.bboxes
        num_gt = 0
        if self.add_gt_as_proposals and len(gt_bboxes):
            num_gt = len(gt_bboxes)
            priors = cat_boxes([gt_bboxes, priors], dim=0)
            assign_result.add_gt_(gt_instances.labels)
        is_gt = torch.arange(len(priors), device=priors.device) < num_gt
        positive = (assign_result.gt_inds > 0).nonzero().flatten()
        negative = (assign_result.gt_inds == 0).nonzero().flatten()

        def result(pos_inds: Tensor, neg_inds: Tensor) -> SamplingResult:
            return SamplingResult(
                pos_inds, neg_inds, priors, gt_bboxes, assign_result, is_gt.byte()
            )

        loss = self._roi_losses(result(positive, negative), feats)
        hard = torch.zeros_like(loss, dtype=torch.bool)
        hard[loss.topk(min(self.num, len(loss))).indices] = True
        return result(positive[hard[: len(positive)]], negative[hard[len(positive) :]])

    @torch.no_grad()
    def _roi_losses(self, candidates: SamplingResult, feats: list) -> Tensor:
        """Return the loss of each candidate, (N,), positives first."""
        rois = bbox2roi([candidates.priors])
        if len(rois) == 0:
            return rois.new_zeros(0)
        votes = self.context._bbox_forward(feats, rois)
        head = self.context.bbox_head
        targets = head.get_targets([candidates], self.context.train_cfg)
        losses = head.loss(
            votes['cls_score'], votes['bbox_pred'], rois, *targets, reduction_override='none'
        )
        loss = losses['loss_cls'].clone()
        num_pos = len(candidates.pos_inds)
        if num_pos:
            loss[:num_pos] += losses['loss_bbox'].view(num_pos, -1).sum(1)
        return loss
