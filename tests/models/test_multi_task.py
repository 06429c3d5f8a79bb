"""MultiTaskDetector around each of the tiny detectors."""

import copy

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmdet.testing import demo_mm_inputs
from mmengine.logging import MessageHub
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import load_checkpoint
from mmengine.structures import InstanceData
from torch import nn

from mmgwap.models.detectors import multi_task as module
from tests.toy_data import tiny_detector

from .conftest import batch, build, losses, multi_task

DETECTOR_PARTS = 'rpn_head roi_head bbox_head neck encoder decoder query_embedding'.split()


def total(values: dict) -> torch.Tensor:
    return sum(sum(v) if isinstance(v, list) else v for key, v in values.items() if 'loss' in key)


def equal(a, b) -> bool:
    a, b = (value if isinstance(value, list) else [value] for value in (a, b))
    return len(a) == len(b) and all(map(torch.equal, a, b))


def gradients(model: nn.Module) -> dict:
    return {key: p.grad for key, p in model.named_parameters()}


@pytest.fixture
def two_processes(monkeypatch):
    """Let a process without boxes compute the losses of the detector."""
    monkeypatch.setattr(module, 'get_world_size', lambda: 2)


def test_boxed_batch_has_the_losses_of_the_plain_detector_bit_for_bit(name):
    model = build(multi_task(name))
    plain = MODELS.build(tiny_detector(name)).train()
    plain.load_state_dict(model.detector.state_dict())
    expected = losses(plain, batch('xxx'))
    found = losses(model, batch('xxx'))
    assert set(found) == set(expected) | {'loss_image'}
    assert all(equal(found[key], expected[key]) for key in expected)
    total(expected).backward()
    (total(found) - found['loss_image']).backward()
    found = gradients(model.detector)
    for key, grad in gradients(plain).items():
        assert equal(grad, found[key]) if grad is not None else found[key] is None, key


def check_gradients_without_boxes(model: nn.Module) -> None:
    """Only the backbone and the image-level head learn; no gradient is missing."""
    trained = []
    for key, grad in gradients(model).items():
        assert grad is not None and grad.isfinite().all(), key
        if grad.any():
            trained.append(key)
    assert not [key for key in trained if key.split('.')[1] in DETECTOR_PARTS]
    assert [key for key in trained if key.startswith('detector.backbone')]
    head = [key for key in trained if key.startswith('cls_head')]
    assert head == ['cls_head.classifier.weight', 'cls_head.classifier.bias']


@pytest.mark.parametrize('factor', [1.0, float('nan')])
def test_discarded_pass_has_no_effect(name, factor, two_processes, monkeypatch):
    """Loss, gradients and buffers equal those of a single process, also for losses of NaN."""
    expected, model = (build(multi_task(name)) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(module, 'get_world_size', lambda: 1)
        terms = losses(expected, batch('..'))
        assert set(terms) == {'loss_image'}
        terms['loss_image'].backward()
    calls, plain_loss = [], model.detector.loss

    def loss(inputs, samples):
        calls.append(len(samples))
        return {
            key: [term * factor for term in value] if isinstance(value, list) else value * factor
            for key, value in plain_loss(inputs, samples).items()
        }

    model.detector.loss = loss
    found = losses(model, batch('..'))
    assert calls == [1]
    assert torch.equal(total(found), terms['loss_image'])
    total(found).backward()
    check_gradients_without_boxes(model)
    for key, grad in gradients(expected).items():
        assert equal(grad, gradients(model)[key]), key
    for (key, wanted), buffer in zip(expected.named_buffers(), model.buffers()):
        assert torch.equal(wanted, buffer), key
    assert not any(part._forward_hooks for part in model.modules())


def test_discarded_pass_updates_synchronised_norms():
    """SyncBatchNorm's statistics must stay equal in all processes."""
    norms = nn.Sequential(nn.SyncBatchNorm(3), nn.BatchNorm2d(3))
    with module._no_updates(norms):
        assert [norm.track_running_stats for norm in norms] == [True, False]
    assert [norm.track_running_stats for norm in norms] == [True, True]


def test_selected_images_are_a_view_where_possible():
    x = torch.rand(4, 2)
    batch = dict(inputs=x, feats=(x, [x]))
    view = module.select_images(batch, [0, 1])
    assert view['feats'][1][0].data_ptr() == x.data_ptr() and equal(view['inputs'], x[:2])
    assert equal(module.select_images(batch, [1, 2])['feats'][0], x[1:3])
    assert equal(module.select_images(batch, [0, 3])['inputs'], x[[0, 3]])


def test_images_without_boxes_change_no_loss_of_the_others(name):
    model = build(multi_task(name))
    for norm in model.modules():  # batch norm mixes the images, so it is frozen
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()
    expected = losses(model, batch('xx'))
    found = losses(model, batch('xx.'))
    assert set(found) == set(expected)
    for key in set(expected) - {'loss_image'}:
        a, b = (
            torch.stack([*v]) if isinstance(v, list) else v for v in (found[key], expected[key])
        )
        # The rounding of convolutions depends on the batch size.
        assert (a - b).abs().max() <= 1e-4 * b.abs().max() + 1e-6, key


def test_order_of_a_mixed_batch_does_not_matter():
    model = build(multi_task('retinanet'))
    reordered = {key: [value[i] for i in (1, 3, 0, 2)] for key, value in batch('.x.x').items()}
    a, b = losses(model, batch('.x.x')), losses(model, reordered)
    for key in a:
        assert abs(total({key: a[key]}) - total({key: b[key]})) < 1e-4


@pytest.mark.parametrize('name, boxed', [('rfcn', 'xx'), ('rfcn', 'x.'), ('retinanet', '..')])
def test_each_image_passes_the_backbone_once(name, boxed):
    model = build(multi_task(name))
    sizes = []
    model.detector.backbone.register_forward_hook(
        lambda _, inputs, output: sizes.append(len(inputs[0]))
    )
    losses(model, batch(boxed))
    assert sizes == [2]
    model.eval()
    data = model.data_preprocessor(batch(boxed), False)
    model(**data, mode='predict')
    model(**data, mode='tensor')
    assert sizes == [2, 2, 2]


def test_detector_without_a_call_of_extract_feat_is_named():
    model = build(multi_task('retinanet'))
    model.detector.loss = lambda inputs, samples: {}
    with pytest.raises(TypeError, match='RetinaNet'):
        losses(model, batch('x'))


def test_predictions(name):
    model = build(multi_task(name, test_cfg=dict(with_maps=True))).eval()
    plain = MODELS.build(tiny_detector(name)).eval()
    plain.load_state_dict(model.detector.state_dict())
    with torch.no_grad():
        found, expected = (
            m(**m.data_preprocessor(batch('xx'), False), mode='predict') for m in (model, plain)
        )
    for sample, reference in zip(found, expected):
        for key in ('bboxes', 'scores', 'labels'):
            assert torch.equal(sample.pred_instances[key], reference.pred_instances[key])
        assert sample.pred_image_scores.shape == (4,)
        assert sample.pred_image_scores.ge(0).all() and sample.pred_image_scores.le(1).all()
        maps = sample.pred_image_maps
        assert maps.shape[0] == 4 and maps.shape[1] == maps.shape[2]
    model.with_maps = False
    data = model.data_preprocessor(batch('x'), False)
    assert 'pred_image_maps' not in model(**data, mode='predict')[0]


@pytest.mark.parametrize('rescore', [0.25, 1.0])
def test_rescore(rescore):
    model = build(multi_task('rfcn')).eval()
    results = []
    with torch.no_grad():
        for model.rescore in (0, rescore):
            data = model.data_preprocessor(batch('x'), False)
            results += model(**data, mode='predict')
    before, after = (sample.pred_instances for sample in results)
    assert len(before) == len(after) > 0
    image_scores = results[0].pred_image_scores[before.labels]
    expected = before.scores ** (1 - rescore) * image_scores**rescore
    order = expected.argsort(descending=True)
    assert (after.scores - expected[order]).abs().max() < 1e-6
    assert torch.equal(before.labels[order], after.labels)


@pytest.mark.parametrize('rescore', [-0.1, 1.1, float('nan')])
def test_rescore_out_of_range(rescore):
    with pytest.raises(ValueError, match=f'rescore.*{rescore}'):
        build(multi_task('rfcn', test_cfg=dict(rescore=rescore)))


def test_plain_checkpoint_loads(name, tmp_path):
    plain = build(tiny_detector(name), seed=5)
    path = str(tmp_path / 'plain.pth')
    torch.save(dict(state_dict=plain.state_dict()), path)
    loaded = build(multi_task(name))
    load_checkpoint(loaded, path, map_location='cpu')
    started = build(multi_task(name, init_cfg=dict(type='Pretrained', checkpoint=path)))
    for model in (loaded, started):
        state = model.detector.state_dict()
        assert state.keys() == plain.state_dict().keys()
        for key, value in plain.state_dict().items():
            assert torch.equal(state[key], value), key

    model.load_state_dict(loaded.state_dict(), strict=True)


def test_attributes_are_those_of_the_detector():
    model = build(multi_task('faster_rcnn'))
    assert model.roi_head is model.detector.roi_head
    assert model.with_bbox and model.with_neck and not model.with_mask
    assert copy.deepcopy(model).roi_head is not model.roi_head
    with pytest.raises(AttributeError, match='unknown_attribute'):
        _ = model.unknown_attribute


def test_batch_augmentations_see_images_without_boxes():
    cfg = multi_task('retinanet')
    cfg['detector']['data_preprocessor']['batch_augments'] = [
        dict(
            type='BatchSyncRandomResize', interval=1, size_divisor=32, random_size_range=(160, 160)
        )
    ]
    MessageHub.get_current_instance().update_info('iter', 0)
    model = build(cfg)
    data = model.data_preprocessor(batch('x.'), True)
    assert [len(sample.gt_instances) for sample in data['data_samples']] == [2, 0]
    assert [sample.has_boxes for sample in data['data_samples']] == [True, False]


def test_masks_of_images_without_boxes(two_processes):
    """An instance segmentation detector computes the losses of its mask head."""
    cfg = multi_task('faster_rcnn')
    cfg['detector'].type = 'MaskRCNN'
    cfg['detector'].roi_head.update(
        mask_roi_extractor=dict(
            cfg['detector'].roi_head.bbox_roi_extractor,
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
        ),
        mask_head=dict(
            type='FCNMaskHead', num_convs=1, in_channels=16, conv_out_channels=16, num_classes=4
        ),
    )
    cfg['detector'].train_cfg.rcnn.mask_size = 28
    data = batch('..')
    for sample in data['data_samples']:
        sample.empty_instances = InstanceData(
            bboxes=torch.zeros(0, 4),
            labels=torch.zeros(0).long(),
            masks=BitmapMasks(np.zeros((0, 128, 128), np.uint8), 128, 128),
        )
    model = build(cfg)
    total(losses(model, data)).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.grad.eq(0).all() for p in model.roi_head.mask_head.parameters())


def test_plain_detector_refuses_images_without_boxes():
    plain = build(tiny_detector('rfcn'))
    with pytest.raises(AttributeError, match='1.jpg.*MultiTaskDetector'):
        losses(plain, batch('x.'))


def test_data_samples_of_mmdet_have_boxes():
    model = build(multi_task('rfcn'))
    data = demo_mm_inputs(2, [[3, 128, 128]] * 2, num_items=[1, 1], num_classes=4)
    assert 'loss_rpn_cls' in losses(model, data)


@pytest.mark.parametrize('name', ['retinanet', 'rtmdet', 'detr'])
def test_mixed_precision(name):
    """The losses in bfloat16 are close to those in float32.

    Two-stage detectors are left out: mmcv's NMS on the CPU has no bfloat16.
    """
    model = build(multi_task(name))
    data = model.data_preprocessor(batch('x.'), True)
    _, plain = model.parse_losses(losses(model, batch('x.')))
    with torch.autocast('cpu', torch.bfloat16):
        mixed = model(**data, mode='loss')
    loss, terms = model.parse_losses(mixed)
    assert terms['loss_image'].dtype == torch.float32
    for key, value in plain.items():
        torch.testing.assert_close(terms[key].float(), value, rtol=0.1, atol=0.05)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.gpu
@pytest.mark.parametrize('boxed', ['x.', '..'])
def test_mixed_precision_training(name, boxed):
    model = build(multi_task(name)).cuda()
    optim = AmpOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=1e-3), accumulative_counts=2
    )
    optim.initialize_count_status(model, 0, 4)
    start = [p.detach().clone() for p in model.parameters()]
    for step in range(4):
        terms = model.train_step(batch(boxed, seed=step), optim)
        assert all(torch.isfinite(value).all() for value in terms.values())
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert not all(map(torch.equal, start, model.parameters()))
