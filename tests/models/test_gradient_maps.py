"""Gradient CAMs of detectors and classifiers."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules

from mmgwap.localization import GRADIENT_CAMS
from mmgwap.models.detectors import gradient_maps
from mmgwap.models.detectors.gradient_maps import score_gradients
from tests.toy_data import DETECTORS, tiny_detector

from .conftest import multi_task

register_all_modules()


def build(name, with_image_head=False):
    torch.manual_seed(0)
    cfg = multi_task(name) if with_image_head else tiny_detector(name)
    model = MODELS.build(cfg)
    model.init_weights()
    settle(model)
    head = model.roi_head if hasattr(model, 'roi_head') else model.bbox_head
    test_cfg = getattr(head, 'test_cfg', None) or {}
    if 'score_thr' in test_cfg:  # scores of an untrained model are low
        test_cfg.score_thr = 0.0
    for layer in getattr(head, 'rtm_reg', ()):  # boxes must not be empty
        torch.nn.init.constant_(layer.bias, 2.0)
    return model.eval()


def settle(model):
    """Set batch norm statistics with which the features do not vanish."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            module.momentum = 1.0
    model.train()
    with torch.no_grad():
        model.extract_feat(torch.randn(2, 3, 64, 96))


def batch(sizes=([3, 64, 96], [3, 96, 64])):
    torch.manual_seed(1)
    return demo_mm_inputs(len(sizes), list(sizes), num_classes=4)


def detected(model, data):
    """Return a class that the model detects in the first image."""
    with torch.no_grad():
        samples = model.test_step(data)
    return int(samples[0].pred_instances.labels[0])


@pytest.mark.parametrize(
    'name, with_image_head',
    [*((name, False) for name in DETECTORS), ('rfcn', True), ('retinanet', True)],
)
def test_every_detector(name, with_image_head):
    model = build(name, with_image_head)
    label = detected(model, batch())
    before = [p.clone() for p in model.parameters()]
    maps = {method: gradient_maps(model, batch(), label, method) for method in GRADIENT_CAMS}
    for batch_maps in maps.values():
        assert batch_maps.shape[0] == 2 and not batch_maps.requires_grad
        assert torch.isfinite(batch_maps).all() and (batch_maps >= 0).all()
    assert maps['layer_cam'][0].any()
    assert all(p.grad is None and torch.equal(p, old) for p, old in zip(model.parameters(), before))


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(n, marks=pytest.mark.slow) if n in ('faster_rcnn', 'retinanet') else n
        for n in DETECTORS
    ],
)
def test_gradient_of_the_class_score(name):
    """Compare with finite differences of the score that mmdet reports.

    mmcv's NMS needs float32, so the difference is taken along the gradient, where it
    is largest.
    """
    model = build(name)
    keep_all(model)
    label = detected(model, batch([[3, 64, 96]]))
    features, gradient = score_gradients(model, batch([[3, 64, 96]]), label)
    slope = gradient.double().norm()
    assert slope > 0
    score = class_score_moved(model, label, 0)[1]
    step = 2e-5 * score / slope
    counts, scores = zip(
        *(class_score_moved(model, label, sign * step * gradient / slope) for sign in (0, 1, -1))
    )
    assert len(set(counts)) == 1
    torch.testing.assert_close((scores[1] - scores[2]) / (2 * step), slope, rtol=0.02, atol=0)


def keep_all(model):
    """Keep all boxes, because selecting boxes has no gradient."""
    parts = [model.rpn_head, model.roi_head] if hasattr(model, 'rpn_head') else [model.bbox_head]
    for part in parts:
        cfg = part.test_cfg
        if 'nms' in cfg:
            cfg.update(nms_pre=10**6, max_per_img=10**5, nms=dict(type='nms', iou_threshold=1.0))


def class_score_moved(model, label, change):
    """Return the number of detections of a class and their score, with moved features."""
    hook = model.backbone.register_forward_hook(
        lambda _, inputs, outputs: (*outputs[:-1], outputs[-1] + change)
    )
    with torch.no_grad():
        found = model.test_step(batch([[3, 64, 96]]))[0].pred_instances
    hook.remove()
    found = found[found.labels == label]
    return len(found), found.scores.double().sum()


def test_class_without_detections():
    model = build('retinanet')
    model.bbox_head.test_cfg.score_thr = 1.0
    assert not gradient_maps(model, batch(), 0).any()


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(method='cam'), "method.*'cam'"),
        (dict(layer='trunk'), "no layer 'trunk'.*backbone"),
        (dict(index=4), 'index=4.*1 outputs|index=4.*4 outputs'),
        (dict(layer='bbox_head.cls_convs'), 'is not called itself'),
        (dict(layer='backbone.layer1.0.bn1'), None),
    ],
)
def test_options(options, message):
    model = build('retinanet')
    label = detected(model, batch())
    if message is None:
        assert gradient_maps(model, batch(), label, **options).shape == (2, 24, 24)
        return
    with pytest.raises(ValueError, match=message):
        gradient_maps(model, batch(), label, **options)


def test_layer_that_the_scores_do_not_depend_on():
    model = build('retinanet')
    model.unused = torch.nn.Conv2d(3, 3, 1)
    predict = model.predict

    def also(inputs, samples, rescale=True):
        model.unused(inputs)
        return predict(inputs, samples, rescale)

    model.predict = also
    with pytest.raises(ValueError, match="do not depend on 'unused'"):
        gradient_maps(model, batch(), detected(model, batch()), layer='unused')


def test_layer_that_is_called_for_each_level():
    model = build('retinanet')
    label = detected(model, batch())
    shapes = [
        gradient_maps(model, batch(), label, index=i, layer='bbox_head.cls_convs.0').shape[1:]
        for i in range(5)
    ]
    assert shapes == [(12, 12), (6, 6), (3, 3), (2, 2), (1, 1)]
    assert gradient_maps(
        model, batch(), label, 'layer_cam', index=0, layer='bbox_head.cls_convs.0'
    ).any()


def test_features_are_those_before_changes_in_place():
    model = build('retinanet')
    label = detected(model, batch())
    # The residual block adds to the output of this norm and applies ReLU in place.
    norm = 'backbone.layer4.0.bn2'
    features, gradient = score_gradients(model, batch(), label, norm)
    assert (features < 0).any() and gradient.any()
    outputs = []
    hook = model.get_submodule(norm).register_forward_hook(
        lambda _, inputs, output: outputs.append(output.clone())
    )
    with torch.no_grad():
        model.test_step(batch())
    hook.remove()
    torch.testing.assert_close(features, outputs[0])


@pytest.mark.parametrize('label', [-1, 4])
def test_label_out_of_range(label):
    with pytest.raises(ValueError, match=rf'label.*\[0, 3\].*got {label}'):
        gradient_maps(build('retinanet'), batch(), label)


def test_frozen_layers():
    model = build('retinanet')
    label = detected(model, batch())
    wanted = gradient_maps(model, batch(), label)
    for p in model.parameters():
        p.requires_grad_(False)
    torch.testing.assert_close(gradient_maps(model, batch(), label), wanted)


def test_patches_and_hooks_are_removed():
    import mmdet.models.dense_heads.base_dense_head as module
    from mmdet.models.utils import select_single_mlvl

    model = build('retinanet')
    with pytest.raises(ValueError):
        gradient_maps(model, batch(), 0, layer='trunk')
    assert module.select_single_mlvl is select_single_mlvl
    gradient_maps(model, batch(), 0)
    assert module.select_single_mlvl is select_single_mlvl
    assert not model.backbone._forward_hooks


@pytest.mark.gpu
@pytest.mark.parametrize('name', DETECTORS)
def test_cuda_equals_cpu(name):
    model = build(name)
    label = detected(model, batch())
    wanted = score_gradients(model, batch(), label)
    found = score_gradients(model.cuda(), batch(), label)
    for one, other in zip(found, wanted):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-2, atol=1e-4)
