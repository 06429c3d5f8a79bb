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

from tests.toy_data import tiny_detector

from .conftest import batch, build, losses, multi_task

DETECTOR_PARTS = (
    'rpn_head',
    'roi_head',
    'bbox_head',
    'neck',
    'encoder',
    'decoder',
    'query_embedding',
)


def total(values: dict) -> torch.Tensor:
    return sum(sum(v) if isinstance(v, list) else v for key, v in values.items() if 'loss' in key)


def same(a, b) -> bool:
    a, b = (value if isinstance(value, list) else [value] for value in (a, b))
    return len(a) == len(b) and all(torch.equal(one, two) for one, two in zip(a, b))


def test_a_boxed_batch_gives_the_plain_losses_bit_for_bit(name):
    model = build(multi_task(name))
    plain = MODELS.build(tiny_detector(name)).train()
    plain.load_state_dict(model.detector.state_dict())
    wanted = losses(plain, batch('xxx'))
    got = losses(model, batch('xxx'))
    assert set(got) == set(wanted) | {'loss_image'}
    assert all(same(got[key], wanted[key]) for key in wanted)
    total(wanted).backward()
    (total(got) - got['loss_image']).backward()
    for (key, one), two in zip(plain.named_parameters(), model.detector.parameters()):
        assert same(one.grad, two.grad) if one.grad is not None else two.grad is None, key


@pytest.mark.parametrize('processes', [1, 2])
def test_label_only_images_teach_the_backbone_alone(name, processes, monkeypatch):
    # Among others, a process computes the detector's losses all the same.
    monkeypatch.setattr('mmgwap.models.detectors.multi_task.get_world_size', lambda: processes)
    model = build(multi_task(name))
    got = losses(model, batch('..'))
    assert set(got) == {'loss_image'}
    total(got).backward()
    silent, taught = [], []
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        (taught if parameter.grad.abs().sum() > 0 else silent).append(key)
    assert not [key for key in taught if key.split('.')[1] in DETECTOR_PARTS]
    assert [key for key in silent if key.split('.')[1] in DETECTOR_PARTS]
    assert [key for key in taught if key.startswith('detector.backbone')]
    assert {key for key in taught if key.startswith('cls_head')} == {
        'cls_head.classifier.weight',
        'cls_head.classifier.bias',
    }


def test_label_only_images_change_no_loss_of_boxed_ones(name):
    """But through batch norm, which sees all images: it is frozen here."""
    model = build(multi_task(name))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    wanted = losses(model, batch('xx'))
    got = losses(model, batch('xx.'))
    assert set(got) == set(wanted)
    for key in wanted:
        if key != 'loss_image':
            one, two = (
                torch.stack([*value]) if isinstance(value, list) else value
                for value in (got[key], wanted[key])
            )
            # Convolutions round otherwise in batches of other sizes.
            assert (one - two).abs().max() <= 1e-4 * two.abs().max() + 1e-6, key


def test_the_order_of_a_mixed_batch_does_not_matter():
    model = build(multi_task('retinanet'))
    mixed, sorted_ = batch('.x.x'), batch('.x.x')
    order = [1, 3, 0, 2]
    sorted_ = {key: [value[i] for i in order] for key, value in sorted_.items()}
    one, two = losses(model, mixed), losses(model, sorted_)
    for key in one:
        assert abs(total({key: one[key]}) - total({key: two[key]})) < 1e-4


@pytest.mark.parametrize('boxed', ['xx', 'x.', '..'])
def test_each_image_passes_the_backbone_once(name, boxed):
    model = build(multi_task(name))
    sizes = []
    model.detector.backbone.register_forward_hook(
        lambda module, inputs, output: sizes.append(len(inputs[0]))
    )
    losses(model, batch(boxed))
    assert sizes == [2]
    model.eval()
    data = model.data_preprocessor(batch(boxed), False)
    model(**data, mode='predict')
    model(**data, mode='tensor')
    assert sizes == [2, 2, 2]


def test_a_detector_that_takes_no_features_is_refused():
    model = build(multi_task('retinanet'))
    model.detector.loss = lambda inputs, samples: {}
    with pytest.raises(TypeError, match='RetinaNet'):
        losses(model, batch('x'))


def test_predictions(name):
    model = build(multi_task(name, test_cfg=dict(with_maps=True))).eval()
    plain = MODELS.build(tiny_detector(name)).eval()
    plain.load_state_dict(model.detector.state_dict())
    with torch.no_grad():
        got, wanted = (
            one(**one.data_preprocessor(batch('xx'), False), mode='predict')
            for one in (model, plain)
        )
    for sample, reference in zip(got, wanted):
        for key in ('bboxes', 'scores', 'labels'):
            assert torch.equal(sample.pred_instances[key], reference.pred_instances[key])
        assert sample.pred_image_scores.shape == (4,)
        assert ((0 <= sample.pred_image_scores) & (sample.pred_image_scores <= 1)).all()
        maps = sample.pred_image_maps
        assert maps.shape[0] == 4 and maps.shape[1] == maps.shape[2]
    assert (
        'pred_image_maps'
        not in build(multi_task(name)).eval()(
            **model.data_preprocessor(batch('x'), False), mode='predict'
        )[0]
    )


@pytest.mark.parametrize('share', [0.25, 1.0])
def test_rescoring(share):
    cfg = multi_task('rfcn')
    plain = build(cfg).eval()
    model = build(dict(cfg, test_cfg=dict(rescore=share))).eval()
    with torch.no_grad():
        one, two = (
            m(**m.data_preprocessor(batch('x'), False), mode='predict')[0] for m in (plain, model)
        )
    before, after = one.pred_instances, two.pred_instances
    assert len(before) == len(after) > 0
    image = one.pred_image_scores[before.labels]
    wanted = before.scores ** (1 - share) * image**share
    order = wanted.argsort(descending=True)
    assert (after.scores - wanted[order]).abs().max() < 1e-6
    assert (after.scores.diff() <= 0).all()
    assert torch.equal(before.labels[order], after.labels)


@pytest.mark.parametrize('share', [-0.1, 1.1, float('nan')])
def test_wrong_share(share):
    with pytest.raises(ValueError, match='rescore'):
        build(multi_task('rfcn', test_cfg=dict(rescore=share)))


def test_a_plain_checkpoint_loads_as_it_is(name, tmp_path):
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


def test_its_own_checkpoint_loads_strictly(name):
    one, two = build(multi_task(name)), build(multi_task(name), seed=9)
    two.load_state_dict(one.state_dict(), strict=True)
    for key, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[key]), key


def test_hooks_find_the_detectors_parts():
    model = build(multi_task('faster_rcnn'))
    assert model.roi_head is model.detector.roi_head
    assert model.with_bbox and model.with_neck and not model.with_mask
    assert copy.deepcopy(model).roi_head is not model.roi_head
    with pytest.raises(AttributeError, match='nothing_of_that_name'):
        _ = model.nothing_of_that_name


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


def test_masks_of_images_without_boxes(monkeypatch):
    """An instance segmentation detector, among other processes."""
    monkeypatch.setattr('mmgwap.models.detectors.multi_task.get_world_size', lambda: 2)
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
    head = model.roi_head.mask_head.parameters()
    assert all(p.grad.eq(0).all() for p in head)


def test_a_plain_detector_refuses_images_without_boxes():
    plain = build(tiny_detector('rfcn'))
    with pytest.raises(AttributeError, match='1.jpg.*MultiTaskDetector'):
        losses(plain, batch('x.'))


def test_ordinary_data_samples_count_as_boxed():
    model = build(multi_task('rfcn'))
    data = demo_mm_inputs(2, [[3, 128, 128]] * 2, num_items=[1, 1], num_classes=4)
    assert 'loss_rpn_cls' in losses(model, data)


@pytest.mark.parametrize('name', ['retinanet', 'rtmdet', 'detr'])
def test_mixed_precision(name):
    """In bfloat16 the losses are near those of float32, and can be learnt.

    mmcv's NMS on CPU, which two-stage detectors train with, takes none.
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
    assert any(not torch.equal(one, two) for one, two in zip(start, model.parameters()))
