"""R-FCN's OHEM sampler against losses written out."""

import pytest
import torch
from mmdet.models.task_modules import AssignResult
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.structures import InstanceData
from torch.nn import functional as F

from tests.toy_data import tiny_rfcn

register_all_modules()
GT = InstanceData(
    bboxes=torch.tensor([[10.0, 10, 60, 60], [50, 20, 90, 110]]), labels=torch.tensor([1, 3])
)


@pytest.fixture
def roi_head():
    torch.manual_seed(0)
    return MODELS.build(tiny_rfcn(ohem=True)).roi_head


@pytest.fixture
def feats(roi_head):
    return [x.detach() for x in roi_head.bbox_head(torch.randn(1, 64, 8, 8))]


def proposals(count):
    corner = torch.rand(count, 2) * 80
    return torch.cat([corner, corner + 8 + torch.rand(count, 2) * 40], 1)


def assign(priors, gt_inds, gt):
    labels = torch.full_like(gt_inds, -1)
    labels[gt_inds > 0] = GT.labels[gt_inds[gt_inds > 0] - 1]
    return AssignResult(len(gt), gt_inds, torch.zeros(len(priors)), labels)


def sample(roi_head, feats, priors, gt_inds, gt=GT):
    return roi_head.bbox_sampler.sample(
        assign(priors, gt_inds, gt), InstanceData(priors=priors), gt, feats=feats
    )


def loss_of(roi_head, feats, box, gt_ind):
    """Softmax and smooth L1 loss of one RoI."""
    roi = torch.cat([torch.zeros(1), box])[None]
    votes = roi_head._bbox_forward(feats, roi)
    label = GT.labels[gt_ind - 1] if gt_ind > 0 else torch.tensor(4)
    loss = F.cross_entropy(votes['cls_score'], label[None])
    if gt_ind > 0:
        target = roi_head.bbox_head.bbox_coder.encode(box[None], GT.bboxes[gt_ind - 1][None])
        loss = loss + F.smooth_l1_loss(votes['bbox_pred'], target, reduction='sum')
    return loss.item()


def test_the_highest_losses_are_kept(roi_head, feats):
    priors = proposals(40)
    gt_inds = torch.randint(-1, 3, (40,))
    result = sample(roi_head, feats, priors, gt_inds)
    boxes = torch.cat([GT.bboxes, priors])  # ground truth comes first
    owners = torch.cat([torch.tensor([1, 2]), gt_inds])
    losses = [
        loss_of(roi_head, feats, box, owner) if owner >= 0 else -1.0
        for box, owner in zip(boxes, owners)
    ]
    expected = set(torch.tensor(losses).topk(16).indices.tolist())
    assert set(torch.cat([result.pos_inds, result.neg_inds]).tolist()) == expected
    assert (owners[result.pos_inds] > 0).all()
    assert (owners[result.neg_inds] == 0).all()
    torch.testing.assert_close(result.priors, boxes[torch.cat([result.pos_inds, result.neg_inds])])
    torch.testing.assert_close(result.pos_gt_bboxes, GT.bboxes[owners[result.pos_inds] - 1])


def test_all_samples_may_be_positive(roi_head, feats):
    result = sample(roi_head, feats, proposals(30), torch.ones(30, dtype=torch.long))
    assert len(result.pos_inds) == 16 and len(result.neg_inds) == 0


@pytest.mark.parametrize('count', [0, 14])
def test_fewer_rois_than_wanted_are_all_kept(roi_head, feats, count):
    result = sample(roi_head, feats, proposals(count), torch.zeros(count, dtype=torch.long))
    assert len(result.pos_inds) == 2 and len(result.neg_inds) == count
    assert result.pos_is_gt.all()


def test_no_rois_at_all(roi_head, feats):
    empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    result = sample(roi_head, feats, empty.bboxes, empty.labels, empty)
    assert len(result.priors) == 0


def test_mining_leaves_no_gradient(roi_head):
    maps = roi_head.bbox_head(torch.randn(1, 64, 8, 8, requires_grad=True))
    result = sample(roi_head, list(maps), proposals(20), torch.zeros(20, dtype=torch.long))
    assert not result.priors.requires_grad
