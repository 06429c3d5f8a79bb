"""Class masks, compared with detectors whose classifiers never find the masked class."""

import copy

import pytest
import torch
from mmdet.models.dense_heads import DINOHead
from mmdet.models.roi_heads import TridentRoIHead
from mmdet.registry import MODELS
from torch import Tensor, nn

from mmgwap.models.detectors.class_masks import mask_classes, supports_class_masks
from mmgwap.models.detectors.multi_task import detector_loss
from tests.toy_data import tiny_detector, tiny_rfcn

from .conftest import batch, build

CLASSES = 4
CLASSIFIERS = dict(
    rfcn=['roi_head.bbox_head.fc_cls'],
    faster_rcnn=['roi_head.bbox_head.fc_cls'],
    cascade_rcnn=[f'roi_head.bbox_head.{stage}.fc_cls' for stage in range(3)],
    retinanet=['bbox_head.retina_cls'],
    rtmdet=[f'bbox_head.rtm_cls.{level}' for level in range(3)],
    fcos=['bbox_head.conv_cls'],
    atss=['bbox_head.atss_cls'],
    detr=['bbox_head.fc_cls'],
)
TWO_STAGE = ('rfcn', 'faster_rcnn', 'cascade_rcnn')
ALL = 10**5


def config(name: str) -> dict:
    """Return the config of a tiny detector that keeps all candidates, so that none is random."""
    if name == 'rfcn':
        cfg = tiny_rfcn(CLASSES)
    elif name == 'cascade_rcnn':
        cfg = cascade_rcnn()
    else:
        cfg = tiny_detector({'fcos': 'retinanet', 'atss': 'retinanet'}.get(name, name), CLASSES)
    if name in ('fcos', 'atss'):
        cfg.bbox_head.update(
            type=f'{name.upper()}Head',
            norm_cfg=dict(type='GN', num_groups=4),
            loss_bbox=dict(type='GIoULoss'),
        )
    if name == 'fcos':
        cfg.bbox_head.pop('anchor_generator')
        cfg.bbox_head.update(
            bbox_coder=dict(type='DistancePointBBoxCoder'), strides=[8, 16, 32, 64, 128]
        )
    if name == 'atss':
        cfg.bbox_head.anchor_generator.update(ratios=[1.0], scales_per_octave=1)
        cfg.train_cfg.assigner = dict(type='ATSSAssigner', topk=9)
    if name in TWO_STAGE:
        cfg.train_cfg.rpn.sampler.num = ALL
        stages = cfg.train_cfg.rcnn
        for stage in stages if isinstance(stages, list) else [stages]:
            stage.sampler.num = ALL
        cfg.test_cfg.rcnn.update(score_thr=0.0, max_per_img=ALL)
        cfg.test_cfg.rpn.max_per_img = cfg.train_cfg.rpn_proposal.max_per_img = 20
    elif name != 'detr':
        cfg.test_cfg.update(score_thr=0.0, max_per_img=ALL, nms_pre=ALL)
    return cfg


def cascade_rcnn() -> dict:
    cfg = tiny_detector('faster_rcnn', CLASSES)
    cfg.type = 'CascadeRCNN'
    cfg.roi_head.update(
        type='CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[copy.deepcopy(cfg.roi_head.bbox_head) for _ in range(3)],
    )
    cfg.train_cfg.rcnn = [copy.deepcopy(cfg.train_cfg.rcnn) for _ in range(3)]
    return cfg


def make(name: str, cfg: dict = None) -> nn.Module:
    """Build a detector with random classifiers and frozen batch norm."""
    model = build(cfg or config(name)).eval()
    for path in CLASSIFIERS[name]:
        nn.init.normal_(model.get_submodule(path).weight, std=0.1)
    if name == 'rtmdet':  # boxes of random weights are empty
        for conv in model.bbox_head.rtm_reg:
            nn.init.constant_(conv.bias, 2.0)
    return model


def without(model: nn.Module, name: str, label: int) -> nn.Module:
    """Copy a detector with a classifier whose logit of a class is always very low."""
    model = copy.deepcopy(model)
    for path in CLASSIFIERS[name]:
        classifier = model.get_submodule(path)
        channels = of_class(name, len(classifier.weight), label)
        with torch.no_grad():
            classifier.weight[channels] = 0
            classifier.bias[channels] = -1e6
    return model


def of_class(name: str, channels: int, label: int) -> Tensor:
    """Return which output channels of a classifier belong to a class."""
    index = torch.arange(channels)
    if name == 'rfcn':  # the bins of a class are adjacent
        return index // 9 == label
    per_anchor = CLASSES + (name in ('faster_rcnn', 'cascade_rcnn', 'detr'))
    return index % per_anchor == label


def masks_of(*labels) -> Tensor:
    """Make the masks of a batch, from a list of masked classes for each image."""
    masks = torch.zeros(len(labels), CLASSES, dtype=torch.bool)
    for row, removed in zip(masks, labels):
        row[list(removed)] = True
    return masks


def prepare(model: nn.Module, labels=(0, 0)) -> tuple:
    """Make a preprocessed batch in which all boxes of an image have the same class."""
    data = batch('x' * len(labels))
    for sample, label in zip(data['data_samples'], labels):
        sample.gt_instances.labels[:] = label
    data = model.data_preprocessor(data, False)
    return data['inputs'], data['data_samples']


@torch.no_grad()
def predict(model: nn.Module, masks: Tensor) -> list:
    inputs, samples = prepare(model)
    with mask_classes(model, masks):
        return [sample.pred_instances for sample in model.predict(inputs, samples, rescale=False)]


@pytest.fixture(params=CLASSIFIERS)
def name(request):
    return request.param


def test_predictions_of_an_image_are_those_without_its_masked_class(name):
    model = make(name)
    assert supports_class_masks(model)
    plain = predict(model, masks_of([], []))
    label = int(plain[0].labels.mode().values)
    found = predict(model, masks_of([label], []))
    expected = predict(without(model, name, label), masks_of([], []))[0], plain[1]
    for image in range(2):
        # A logit of -1e6 has scores of exactly 0. Such boxes fall below the threshold.
        for key in ('bboxes', 'labels', 'scores'):
            assert torch.equal(found[image][key], expected[image][key])
    assert len(found[0]) and not (found[0].labels == label).any()
    assert (found[1].labels == label).any()
    if name in ('retinanet', 'fcos', 'atss'):  # sigmoids do not depend on each other
        assert torch.equal(found[0].scores, plain[0].scores[plain[0].labels != label])
    # Nothing remains after the end.
    assert torch.equal(predict(model, masks_of([], []))[0].scores, plain[0].scores)
    assert '_bbox_forward' not in vars(getattr(model, 'roi_head', model))


def losses_and_classifier_gradients(model, name, masks, labels=(0, 0)) -> tuple[dict, list]:
    """Return the losses, and the gradients of the classifiers' outputs."""
    outputs = []
    for path in CLASSIFIERS[name]:
        model.get_submodule(path).register_forward_hook(
            lambda _, inputs, output: (output.retain_grad(), outputs.append(output))[0]
        )
    inputs, samples = prepare(model, labels)
    torch.manual_seed(0)
    with mask_classes(model, masks):
        losses = model.loss(inputs, samples)
    total(losses).backward()
    return losses, [output.grad for output in outputs]


def total(losses: dict) -> Tensor:
    return sum(
        value.sum()
        for key, values in losses.items()
        if 'loss' in key
        for value in (values if isinstance(values, list) else [values])
    )


def test_losses_are_those_without_the_masked_class(name):
    model = make(name)
    plain, _ = losses_and_classifier_gradients(copy.deepcopy(model), name, masks_of([], []))
    found, _ = losses_and_classifier_gradients(copy.deepcopy(model), name, masks_of([1], [1]))
    expected, _ = losses_and_classifier_gradients(without(model, name, 1), name, masks_of([], []))
    assert set(found) == set(expected)
    assert not torch.isclose(total(found), total(plain))
    for key in set(found):
        a, b = total({'loss': found[key]}), total({'loss': expected[key]})
        if 'rpn' in key:
            assert a == 0 < b
        else:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=key)


def test_masked_class_gives_no_gradient_of_its_image(name):
    model = make(name)
    _, gradients = losses_and_classifier_gradients(model, name, masks_of([1], []))
    for grad in gradients:
        if grad.dim() == 2:  # rows of RoIs, those of the first image first
            zero = grad[:, 1] == 0
            first = int(zero.sum())
            assert 0 < first < len(zero) and zero[:first].all()
            images = [grad[:first], grad[first:]]
        elif name == 'detr':  # (layers, images, queries, classes)
            images = grad[0]
        elif name == 'rfcn':  # (images, classes, bins, height, width)
            images = grad.flatten(1, 2).movedim(1, -1)
        else:  # (images, channels, height, width)
            images = grad.movedim(1, -1)
        for image, values in enumerate(images):
            for label in range(CLASSES):
                channels = of_class(name, values.shape[-1], label)
                # A small level may have no negative anchor inside of the image.
                assert bool(values[..., channels].any()) == ((image, label) != (0, 1))


@pytest.mark.parametrize('name', TWO_STAGE)
def test_images_with_a_mask_give_no_loss_of_the_rpn(name):
    model = make(name)
    inputs, samples = prepare(model, (0, 0, 0))
    feats = model.extract_feat(inputs)
    with mask_classes(model, masks_of([1], [], [])):
        found = detector_loss(model, inputs, samples, feats, [0, 1, 2])
    expected = detector_loss(model, inputs, samples, feats, [1, 2])
    for key in ('loss_rpn_cls', 'loss_rpn_bbox'):
        assert torch.equal(torch.stack(found[key]), torch.stack(expected[key])), key
    with mask_classes(model, masks_of([1], [1], [2])):
        found = detector_loss(model, inputs, samples, feats, [0, 1, 2])
    rpn = total({key: found[key] for key in ('loss_rpn_cls', 'loss_rpn_bbox')})
    rpn.backward()
    gradients = [p.grad for p in model.rpn_head.parameters()]
    assert rpn == 0 and all(grad is not None and not grad.any() for grad in gradients)


def hard_examples(model: nn.Module, masks: Tensor) -> list[Tensor]:
    """Return the boxes that OHEM chooses on each image."""
    chosen, sampler = [], model.roi_head.bbox_sampler
    sample = sampler.sample

    def record(*args, **kwargs):
        result = sample(*args, **kwargs)
        chosen.append(result.priors)
        return result

    sampler.sample = record
    losses_and_classifier_gradients(model, 'rfcn', masks, labels=(0, 1))
    return chosen


def test_hard_examples_are_those_without_the_masked_class_of_their_image():
    """OHEM scores each image as the only image of a batch."""
    cfg = tiny_rfcn(CLASSES, ohem=True)
    cfg.train_cfg.rcnn.sampler.num = 8
    model = make('rfcn', cfg)
    plain = hard_examples(copy.deepcopy(model), masks_of([], []))
    found = hard_examples(copy.deepcopy(model), masks_of([1], [0]))
    for image, label in enumerate((1, 0)):
        expected = hard_examples(without(model, 'rfcn', label), masks_of([], []))
        assert torch.equal(found[image], expected[image])
    assert not torch.equal(found[1], plain[1])


def test_half_precision():
    """The masked logit is finite in half precision."""
    model = make('retinanet')
    inputs, samples = prepare(model)
    with torch.autocast('cpu', torch.float16), mask_classes(model, masks_of([1], [2])):
        assert total(model.loss(inputs, samples)).isfinite()


@pytest.mark.parametrize('kind', ['tood', 'dino', 'htc', 'trident'])
def test_unsupported_detectors(kind):
    """A head that returns probabilities, an encoder that classifies, and RoI heads of mmdet."""
    if kind == 'tood':
        cfg = config('atss')
        cfg.bbox_head.type = 'TOODHead'
        cfg.bbox_head.loss_cls = dict(
            type='QualityFocalLoss', use_sigmoid=True, activated=True, beta=2.0
        )
        cfg.train_cfg.update(
            initial_assigner=cfg.train_cfg.assigner, initial_epoch=0, alpha=1, beta=6
        )
        model = MODELS.build(cfg)
    elif kind == 'dino':
        model = nn.Module()
        model.bbox_head = DINOHead.__new__(DINOHead)
        nn.Module.__init__(model.bbox_head)
        model.as_two_stage = True
    elif kind == 'trident':
        model = make('faster_rcnn')
        model.roi_head.__class__ = TridentRoIHead
    else:
        model = nn.Module()
        model.roi_head = nn.Module()
        model.roi_head._bbox_forward = lambda stage, x, rois, semantic_feat=None: {}
    assert not supports_class_masks(model)
