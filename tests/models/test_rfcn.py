"""R-FCN: losses, predictions, and the feature maps of the RPN and the RoI head."""

import numpy as np
import pytest
import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.structures import InstanceData

from tests.references import ps_roi as reference
from tests.toy_data import tiny_rfcn

register_all_modules()
SHAPES = [[3, 96, 128], [3, 128, 112]]


def build(**options):
    torch.manual_seed(0)
    model = MODELS.build(tiny_rfcn(**options))
    model.init_weights()
    return model


def inputs(model, num_items=(3, 2), training=True):
    data = demo_mm_inputs(2, SHAPES, num_items=list(num_items), num_classes=4)
    return model.data_preprocessor(data, training)


def total(losses):
    return sum(
        sum(value) if isinstance(value, list) else value
        for name, value in losses.items()
        if 'loss' in name
    )


def check_gradients(model, losses):
    """All gradients are finite, and the classifier of the RoIs learns."""
    total(losses).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert model.roi_head.bbox_head.fc_cls.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    'options', [dict(), dict(k=1), dict(ohem=True, reg_class_agnostic=False, mode='pool')]
)
def test_every_parameter_learns_and_boxes_come_out(options):
    model = build(**options)
    losses = model(**inputs(model), mode='loss')
    assert set(losses) == {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'acc', 'loss_bbox'}
    check_gradients(model, losses)

    model.eval()
    with torch.no_grad():
        results = model(**inputs(model, training=False), mode='predict')
    for result, (_, height, width) in zip(results, SHAPES):
        boxes = result.pred_instances.bboxes
        assert boxes.shape[1] == 4 and 0 < len(boxes) <= 10
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
        scores = result.pred_instances.scores
        assert scores.ge(0).all() and scores.le(1).all()


@pytest.mark.parametrize('num_items', [(0, 0), (2, 0)])
@pytest.mark.parametrize('ohem', [False, True])
def test_images_without_objects_train_as_background(num_items, ohem):
    model = build(ohem=ohem)
    losses = model(**inputs(model, num_items), mode='loss')
    check_gradients(model, losses)


class DirectRPNHead(RPNHead):
    """An RPN that, as mmdet's CascadeRPNHead, calls other methods than ``self(x)``."""

    def loss_and_predict(self, x, samples, proposal_cfg):
        assert len(x) == 1
        gts, metas = zip(*((sample.gt_instances, sample.metainfo) for sample in samples))
        outs = self.forward(x)
        losses = self.loss_by_feat(*outs, gts, metas)
        return losses, self.predict_by_feat(*outs, batch_img_metas=metas, cfg=proposal_cfg)

    def predict(self, x, samples, rescale=False):
        assert len(x) == 1
        metas = [sample.metainfo for sample in samples]
        return self.predict_by_feat(*self.forward(x), batch_img_metas=metas, rescale=rescale)


def test_rpn_with_own_forward_calls_reads_one_level():
    results = []
    for kind in (RPNHead, DirectRPNHead):
        model = build()
        model.rpn_head.__class__ = kind
        torch.manual_seed(1)
        losses = model(**inputs(model), mode='loss')
        model.eval()
        with torch.no_grad():
            (first, _) = model(**inputs(model, training=False), mode='predict')
        results.append([*losses.values(), first.pred_instances.bboxes])
    for result, wanted in zip(*results):
        result, wanted = (one[0] if isinstance(one, list) else one for one in (result, wanted))
        assert torch.equal(result, wanted)


def test_rpn_reads_res4_and_roi_head_res5():
    model = build()
    data = inputs(model)
    x = model.extract_feat(data['inputs'])
    assert len(x) == 2 and x[0].shape[2:] == x[1].shape[2:] == (8, 8)
    scores, _ = model.rpn_head(x[:1])
    scores[0].sum().backward(retain_graph=True)
    assert all(p.grad is None for p in model.backbone.layer4.parameters())
    shortcut = model.backbone.layer3[0].downsample[0]
    assert shortcut.weight.grad.abs().sum() > 0
    maps = model.roi_head.bbox_head(x[-1])
    changed = model.roi_head.forward((x[0] + 1, x[1]), [InstanceData(bboxes=torch.ones(2, 4) * 20)])
    kept = model.roi_head._bbox_forward(maps, torch.tensor([[0.0, 20, 20, 20, 20]] * 2))
    torch.testing.assert_close(changed[0], kept['cls_score'])


@pytest.mark.parametrize('agnostic', [True, False])
def test_roi_scores_are_votes_on_the_maps(agnostic):
    """Compare the whole head with convolution and pooling written as loops."""
    head = build(mode='pool', reg_class_agnostic=agnostic).roi_head
    x = torch.randn(2, 64, 6, 7)
    rois = torch.tensor([[0, 10.2, 5.5, 80, 90], [1, -5, 20, 111, 60], [1, 40, 40, 41, 41]])
    box_head = head.bbox_head
    hidden = np.einsum('oc,bchw->bohw', box_head.conv_new.weight[:, :, 0, 0].detach(), x)
    hidden = np.maximum(hidden + box_head.conv_new.bias[:, None, None].detach().numpy(), 0)
    votes = head._bbox_forward(box_head(x), rois)
    for layer, vote, width in (
        (box_head.fc_cls, votes['cls_score'], 5),
        (box_head.fc_reg, votes['bbox_pred'], 4 if agnostic else 16),
    ):
        maps = (
            np.einsum('oc,bchw->bohw', layer.weight[:, :, 0, 0].detach(), hidden)
            + layer.bias[:, None, None].detach().numpy()
        )
        expected = reference.ps_roi_pool(maps, rois.numpy(), 3, 1 / 16).mean((2, 3))
        assert vote.shape == (3, width)
        np.testing.assert_allclose(vote.detach(), expected, rtol=1e-4, atol=1e-6)


def test_initialization_equals_the_paper():
    head = build(k=7).roi_head.bbox_head
    for layer, std in ((head.conv_new, 0.01), (head.fc_cls, 0.01), (head.fc_reg, 0.001)):
        assert abs(layer.weight.std() / std - 1) < 0.1
        assert layer.bias.abs().max() == 0


@pytest.mark.parametrize('ohem', [False, True])
def test_roi_head_under_autocast_is_near_float32(ohem):
    # The head alone: mmcv's NMS, which the RPN calls, takes no bfloat16.
    model = build(ohem=ohem)
    samples = inputs(model)['data_samples']
    x = torch.randn(2, 64, 8, 8)

    def loss():
        torch.manual_seed(1)
        proposals = [
            InstanceData(bboxes=torch.rand(40, 4) * 40 + torch.tensor([0, 0, 40, 40.0]))
            for _ in samples
        ]
        return total(model.roi_head.loss((x,), proposals, samples))

    exact = loss()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rounded = loss()
    rounded.backward()
    torch.testing.assert_close(rounded.float(), exact, rtol=0.02, atol=0.02)
    assert all(p.grad.isfinite().all() for p in model.roi_head.parameters())


def test_bin_counts_must_agree():
    config = tiny_rfcn()
    config['roi_head']['bbox_head']['output_size'] = 7
    with pytest.raises(ValueError, match='output_size.*got 3 and 7'):
        MODELS.build(config)


def test_mask_head_is_refused():
    config = tiny_rfcn()
    config['roi_head']['mask_head'] = dict(type='FCNMaskHead')
    with pytest.raises(ValueError, match='remove mask_head'):
        MODELS.build(config)


def test_maps_are_cell_major():
    """(B, H, W, k*k, C) in memory, without a copy, for features of either layout."""
    box_head = build().roi_head.bbox_head
    x = torch.randn(2, 64, 6, 7)
    for features in (x, x.contiguous(memory_format=torch.channels_last)):
        for maps in box_head(features):
            assert maps.permute(0, 3, 4, 2, 1).is_contiguous()
