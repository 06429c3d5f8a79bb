"""LabelGuidedTeacher around the tiny detectors."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.runner import load_checkpoint
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmgwap.engine.hooks import MeanTeacherHook
from mmgwap.models.detectors import inner_detector, multi_task
from mmgwap.models.detectors import label_guided_teacher as module
from tests.toy_data import tiny_detector

from .conftest import batch, build, finding, losses, teacher_of
from .conftest import multi_task as multi_task_cfg
from .test_multi_task import equal, gradients, total

SEEN, LEFT_OUT, MASKED, OUTSIDE = range(4)


# Boxes of the classes, if a test gives no other.
PLACES = [(20, 20, 70, 80), (80, 10, 120, 50), (10, 90, 60, 120), (70, 70, 120, 120)]


def make_boxes(*boxes) -> InstanceData:
    """Make detections from (label, score) or (label, score, bbox)."""
    return InstanceData(
        bboxes=torch.tensor([box[2] if box[2:] else PLACES[box[0]] for box in boxes])
        .float()
        .reshape(-1, 4),
        labels=torch.tensor([box[0] for box in boxes], dtype=torch.int64),
        scores=torch.tensor([box[1] for box in boxes], dtype=torch.float32),
    )


def teacher_finds(model: nn.Module, *detections: InstanceData) -> list:
    """Let the teacher find given boxes on each image; return the inputs that it sees."""
    seen = []

    def predict(inputs, samples, rescale):
        assert not rescale and not torch.is_grad_enabled() and not model.teacher.training
        seen.append(inputs)
        for sample, boxes in zip(samples, detections):
            sample.pred_instances = boxes
        return samples

    model.teacher.predict = predict
    return seen


def with_labels(kinds: str, *present: list) -> dict:
    """Make a batch in which the images without boxes have given labels."""
    data = batch(kinds)
    others = [sample for sample in data['data_samples'] if not sample.has_boxes]
    for sample, labels in zip(others, present):
        sample.gt_image_labels = torch.tensor(labels, dtype=torch.int64)
    return data


def lively(model: nn.Module) -> nn.Module:
    """Let a RetinaNet find boxes of all classes, with scores about 0.5."""
    head = model.teacher.bbox_head.retina_cls
    nn.init.zeros_(head.bias)
    nn.init.normal_(head.weight, std=0.1)
    return model


def freeze_norms(model: nn.Module) -> nn.Module:
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()
    return model


@pytest.mark.parametrize(
    'kinds, off', [('x.', dict(thresholds=(2, 2), best_score=None)), ('..', dict(pseudo_weight=0))]
)
def test_without_pseudo_boxes_the_student_trains_as_before(name, kinds, off):
    """Losses and gradients are those of the MultiTaskDetector bit for bit."""
    model = build(teacher_of(multi_task_cfg(name), **off))
    student = MODELS.build(multi_task_cfg(name)).train()
    student.load_state_dict(model.student.state_dict())
    found, expected = losses(model, batch(kinds)), losses(student, batch(kinds))
    zero = {'pseudo_loss'} if 'x' in kinds else {'pseudo_loss', 'loss_boxes'}
    assert set(found) == {*expected, *zero} and not any(found[key] for key in zero)
    assert all(equal(found[key], expected[key]) for key in expected)
    total(found).backward()
    total(expected).backward()
    found = gradients(model.student)
    for key, grad in gradients(student).items():
        assert equal(found[key], torch.zeros_like(found[key]) if grad is None else grad), key
    assert all(p.grad is None for p in model.teacher.parameters())


def test_boxed_images_have_the_losses_of_the_plain_detector(name):
    """A boxed batch to the bit; a mixed batch with frozen norms, which would mix the images."""
    model = build(teacher_of(tiny_detector(name), thresholds=(2, 2), best_score=None))
    plain = MODELS.build(tiny_detector(name)).train()
    plain.load_state_dict(model.student.state_dict())
    for kinds, norms in (('xx', lambda m: m), ('.x.', freeze_norms)):
        norms(plain), norms(model.student)
        data = plain.data_preprocessor(with_labels(kinds), True)
        boxed = [i for i, kind in enumerate(kinds) if kind == 'x']
        with torch.random.fork_rng():
            torch.manual_seed(1)
            feats = plain.extract_feat(data['inputs'])
            expected = multi_task.detector_loss(plain, *data.values(), feats, boxed)
        found = losses(model, with_labels(kinds))
        assert set(found) == {*expected, 'pseudo_loss'} and found['pseudo_loss'] == 0
        assert all(equal(found[key], expected[key]) for key in expected)


def test_pseudo_boxes_give_the_losses_of_boxes(name):
    """The losses are those of the plain detector on images with these boxes."""
    model = freeze_norms(build(teacher_of(tiny_detector(name), pseudo_weight=0.5)))
    plain = freeze_norms(MODELS.build(tiny_detector(name)).train())
    plain.load_state_dict(model.student.state_dict())
    boxes = [make_boxes((0, 0.9), (3, 0.95, (70, 60, 120, 110))), make_boxes((2, 0.9))]
    teacher_finds(model, *boxes)
    found = losses(model, with_labels('..', [0, 3], [2]))
    assert found.pop('loss_boxes') == 0
    data = batch('..')
    for sample, instances in zip(data['data_samples'], boxes):
        sample.set_metainfo(dict(has_boxes=True))
        sample.gt_instances = InstanceData(bboxes=instances.bboxes, labels=instances.labels)
    expected = losses(plain, data)
    assert set(found) == {f'pseudo_{key}' for key in expected}
    for key, value in expected.items():
        value = total({'loss': value}) * (0.5 if 'loss' in key else 1)
        torch.testing.assert_close(total({'loss': found[f'pseudo_{key}']}), value)
    assert model.statistics.images.tolist() == [2, 0, 0, 0]


def test_labels_matter_only_if_they_guide():
    """Permuted labels change no loss of a plain student with guided=False."""
    for guided in (False, True):
        cfg = teacher_of(tiny_detector('retinanet'), guided=guided, thresholds=(0.4, 0.4))
        results = []
        for labels in ([0], [1, 2]), ([3, 1], []):
            results.append(losses(lively(build(cfg)), with_labels('x..', *labels)))
        assert set(results[0]) == set(results[1]) and 'pseudo_loss_cls' in results[0]
        same = [key for key in results[0] if equal(results[0][key], results[1][key])]
        assert 'loss_cls' in same and ('pseudo_loss_cls' in same) != guided
        assert (len(same) == len(results[0])) != guided


def test_teacher_finds_no_absent_classes():
    """Also if the absent classes would take all the places of max_per_img."""
    cfg = tiny_detector('retinanet')
    cfg.test_cfg.max_per_img = 3
    model = lively(build(teacher_of(cfg, thresholds=(0.0, 0.0))))
    model.teacher.bbox_head.retina_cls.bias.data.view(-1, 4)[:, 1] = 9
    data = model.data_preprocessor(batch('..'), True)
    labels = torch.tensor([[1.0, 0, 0, -1], [0, 1, 0, 0]])
    found = model.find_pseudo_boxes(data['inputs'], data['data_samples'], labels)
    assert [len(boxes) for boxes in found] == [3, 3]
    assert set(found[0].labels.tolist()) <= {0, 3} and set(found[1].labels.tolist()) == {1}
    model.guided = False
    found = model.find_pseudo_boxes(data['inputs'], data['data_samples'], labels)
    assert [boxes.labels.tolist() for boxes in found] == [[1] * 3, [1] * 3]


OUT = (130, 20, 180, 60)  # outside of a view that is shifted by 120 px


@pytest.mark.parametrize(
    'kind, present, found, expected, images',
    [
        ('.', [0], [(0, 0.95)], [0], [1, 0, 0, 0]),
        # Present classes without a box are masked.
        ('.', [0, 2], [(0, 0.95)], [0], [1, 0, 1, 0]),
        ('.', [0, 2], [(0, 0.95), (2, 0.05)], [0], [1, 0, 1, 0]),
        ('.', [0, 2], [(0, 0.95), (2, 0.1)], [0, 2], [1, 0, 0, 0]),
        # No pseudo box: left out.
        ('.', [0], [], None, [1, 1, 0, 0]),
        ('.', [0], [(1, 0.95)], None, [1, 1, 0, 0]),
        ('.', [0], [(0, 0.95, (200, 0, 250, 50))], None, [1, 1, 0, 1]),
        # Not even 1 px is left in the view.
        ('.', [0], [(0, 0.95, (127.5, 0, 200, 50))], None, [1, 1, 0, 1]),
        # All classes absent: taught as background, whatever the teacher finds.
        ('.', [], [(1, 0.95)], [], [1, 0, 0, 0]),
        # Of unknown classes only boxes above the threshold pass.
        ('?', None, [(1, 0.95), (2, 0.85)], [1], [1, 0, 0, 0]),
        ('?', None, [(2, 0.85)], None, [1, 1, 0, 0]),
    ],
)
@pytest.mark.parametrize('guided', [True, False])
def test_which_images_are_taught(kind, present, found, expected, images, guided):
    cfg = teacher_of(tiny_detector('retinanet'), guided=guided, best_score=0.1)
    model = build(cfg)
    teacher_finds(model, make_boxes(*found))
    data = batch(kind) if present is None else with_labels(kind, present)
    data = model.data_preprocessor(data, True)
    # The image file is larger than the view.
    data['data_samples'][0].set_metainfo(dict(ori_shape=(128, 256)))
    terms = model(**data, mode='loss')
    if not guided:
        inside = [box for box in found if box[1] >= 0.9 and (box[2:] or [(0,)])[0][0] < 127]
        expected = [box[0] for box in inside] or None
        outside = int(any(box[1] >= 0.9 for box in found) and not inside)
        images = [1, int(not inside), 0, outside]
    assert model.statistics.images.tolist() == images
    if expected is None:
        assert terms['pseudo_loss'] == 0 and 'pseudo_loss_cls' not in terms
    else:
        assert data['data_samples'][0].gt_instances.labels.tolist() == expected
        assert 'pseudo_loss' not in terms and total({'loss': terms['pseudo_loss_cls']}) > 0


@pytest.mark.parametrize('name', ['retinanet', 'rfcn', 'detr'])
@pytest.mark.parametrize('guided', [True, False])
def test_present_class_without_pseudo_box_is_no_background(name, guided):
    """Class 2 of the last image has no box; absent classes and class 2 elsewhere are taught."""
    model = build(teacher_of(tiny_detector(name), guided=guided))
    head = model.student.roi_head.bbox_head.fc_cls if name == 'rfcn' else model.student.bbox_head
    head = getattr(head, 'retina_cls', getattr(head, 'fc_cls', head))
    outputs = []
    head.register_forward_hook(lambda _, x, y: (y.retain_grad(), outputs.append(y)) and None)
    # The first image of the batch is left out.
    teacher_finds(model, make_boxes(), make_boxes((0, 0.95)), make_boxes((0, 0.95)))
    terms = losses(model, with_labels('...', [1], [0], [0, 2]))
    total({k: v for k, v in terms.items() if k.startswith('pseudo')}).backward()
    grad = torch.stack(
        [output.grad for output in outputs if output.shape[-1] == outputs[-1].shape[-1]]
    )
    if name == 'retinanet':  # (levels, images, anchors * classes, h, w)
        by_class = grad.unflatten(2, (-1, 4)).abs().sum(dim=(0, 2, 4, 5))
    elif name == 'rfcn':  # (1, images, classes, bins, h, w)
        by_class = grad.abs().sum(dim=(0, 3, 4, 5))
    else:  # (1, layers, images, queries, classes)
        by_class = grad.abs().sum(dim=(0, 1, 3))
    assert by_class[0, :4].all()
    assert (by_class[1, :4] > 0).tolist() == [True, True, not guided, True]


def test_image_is_left_out_if_its_head_has_no_masks(monkeypatch):
    monkeypatch.setattr(module, 'supports_class_masks', lambda detector: False)
    model = build(teacher_of(tiny_detector('retinanet')))
    teacher_finds(model, make_boxes((0, 0.95), (1, 0.95)), make_boxes((0, 0.95)))
    terms = losses(model, with_labels('..', [0], [0, 2]))
    # The first image remains. Its box of an absent class is dropped.
    assert total({'loss': terms['pseudo_loss_bbox']}) > 0
    assert model.statistics.images.tolist() == [2, 1, 0, 0]
    assert model.statistics.counts[:2].tolist() == [[2, 0, 0, 0], [2, 0, 1, 0]]


def test_counts_where_the_truth_is_known():
    model = build(teacher_of(tiny_detector('retinanet')))
    teacher_finds(
        model,
        make_boxes((0, 0.95), (2, 0.95, (0, 0, 20, 20)), (3, 0.99)),  # class 3 is absent
        make_boxes((2, 0.95), (2, 0.92, (0, 0, 20, 20))),
    )
    data = with_labels('x..', [0, 2], [2])
    for sample, truth in zip(data['data_samples'][1:], [[(0, 1), (2, 1)], [(2, 1)]]):
        sample.hidden_instances = make_boxes(*truth)
    losses(model, data)
    counts = model.statistics.counts.tolist()
    assert counts == [[1, 0, 3, 0], [1, 0, 2, 0], [1, 0, 2, 0], [1, 0, 1, 0], [1, 0, 3, 0]]
    assert model.thresholds.images.tolist() == [1, 2]
    assert model.thresholds.boxes.sum() == 2 and model.thresholds.scores.sum() == 4


def test_burn_in():
    model = build(teacher_of(tiny_detector('retinanet'), burn_in=2))
    seen = teacher_finds(model, make_boxes((0, 0.95)))
    keys = [set(losses(model, with_labels('.', [0]))) for _ in range(3)]
    assert keys[0] == keys[1] == {'loss_boxes', 'pseudo_loss'}
    assert 'pseudo_loss_cls' in keys[2] and len(seen) == 1
    assert model.statistics.images[SEEN] == 1 == model.thresholds.images[1]


def test_thresholds_are_updated_in_training_only():
    model = build(teacher_of(tiny_detector('retinanet')))
    for training in (False, True):
        model.train(training)
        data = model.data_preprocessor(with_labels('.', [0]), False)
        teacher_finds(model, make_boxes((0, 0.95)))
        (found,) = model.find_pseudo_boxes(*data.values(), torch.tensor([[1, 0, 0, 0]]))
        assert len(found) == 1 and model.thresholds.images[1] == training


@pytest.mark.parametrize('follows', [False, True])
def test_missing_hook_is_warned_about_once(follows, monkeypatch):
    messages = []
    monkeypatch.setattr(module, 'print_log', lambda text, *args: messages.append(text))
    model = build(teacher_of(tiny_detector('retinanet'), burn_in=1))
    model.follows_student = follows
    teacher_finds(model, make_boxes())
    for _ in range(4):
        losses(model, batch('.'))
    assert len(messages) == (not follows)
    assert follows or 'mmgwap.MeanTeacherHook' in messages[0]


def detections_from_file(data: dict, *boxes: InstanceData) -> dict:
    others = [sample for sample in data['data_samples'] if not sample.has_boxes]
    for sample, instances in zip(others, boxes):
        sample.file_instances = instances
    return data


@pytest.mark.parametrize('source', ['file', 'both'])
def test_boxes_from_a_file(source):
    """With both sources, the box with the higher score replaces an overlapping box of its class."""
    model = build(teacher_of(tiny_detector('retinanet'), boxes=source))
    seen = teacher_finds(
        model,
        make_boxes((0, 0.91, (20, 20, 70, 82)), (2, 0.95, (0, 0, 9, 9))),
        make_boxes(),
        make_boxes(),
    )
    data = with_labels('...', [0, 2], [1], [1])
    file = make_boxes((0, 0.95), (3, 0.99)), make_boxes((1, 0.95)), make_boxes()
    data = model.data_preprocessor(detections_from_file(data, *file), True)
    model(**data, mode='loss')
    found = [sample.gt_instances for sample in data['data_samples']]
    assert bool(seen) == (source == 'both')
    assert sorted(found[0].labels.tolist()) == ([0] if source == 'file' else [0, 2])
    assert found[0].bboxes[found[0].labels == 0].tolist() == [[20, 20, 70, 80]]
    assert [len(boxes) for boxes in found[1:]] == [1, 0]
    with pytest.raises(ValueError, match='1.jpg.*pseudo_boxes'):
        losses(model, detections_from_file(batch('..'), *file[:1]))


def test_teacher_views_of_some_images_only():
    model = build(teacher_of(tiny_detector('retinanet')))
    data = batch('..')
    data['data_samples'][0].set_data(dict(teacher_view=dict()))
    with pytest.raises(ValueError, match='1.jpg.*PackTeacherView'):
        losses(model, data)


# Views


COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
SHAPE = (96, 128)
WEAK = [dict(type='Resize', scale=(160, 120)), dict(type='RandomFlip', prob=0.5)]
STRONG = [
    dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='RandomResize', scale=(128, 96), ratio_range=(0.8, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(96, 112)),
]


@pytest.fixture
def rectangles(tmp_path):
    """Function that makes a data set of images with one rectangle each, whose label is its color.

    Args: transforms before and after PackTeacherView. All images but the first have labels only.
    """
    rng = np.random.RandomState(0)
    content = dict(
        images=[], annotations=[], categories=[dict(id=i, name=f'{i}') for i in range(4)]
    )
    for index in range(9):
        image = np.zeros((*SHAPE, 3), np.uint8)
        w, h = rng.randint(16, 48, 2).tolist()
        x, y = (int(rng.randint(0, size - side)) for size, side in zip(SHAPE[::-1], (w, h)))
        image[y : y + h, x : x + w] = COLORS[index % 3]
        cv2.imwrite(str(tmp_path / f'{index}.png'), image)
        content['images'].append(
            dict(id=index, file_name=f'{index}.png', height=SHAPE[0], width=SHAPE[1])
        )
        content['annotations'].append(
            dict(id=index + 1, image_id=index, category_id=index % 3, bbox=[x, y, w, h], area=w * h)
        )
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    (tmp_path / 'split.txt').write_text('0\n')

    def make(weak, strong):
        load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
        view = [] if weak is None else [*weak, dict(type='mmgwap.PackTeacherView')]
        return DATASETS.build(
            dict(
                type='mmgwap.PartialBoxDataset',
                split_file=str(tmp_path / 'split.txt'),
                label_pipeline=[*load, *view, *strong, dict(type='PackDetInputs')],
                dataset=dict(
                    type='CocoDataset',
                    metainfo=dict(classes=tuple('0123')),
                    data_root=str(tmp_path),
                    ann_file='coco.json',
                    data_prefix=dict(img=''),
                    pipeline=[*load, dict(type='PackDetInputs')],
                ),
            )
        )

    return make


def find_rectangle(image: Tensor, shape: tuple) -> InstanceData:
    """Return the box of the bright pixels of a preprocessed image (3, H, W), and its label."""
    bright = image[:, : shape[0], : shape[1]] > 0.5
    rows, columns = (bright.any(dim=0).any(dim=dim).nonzero().flatten() for dim in (1, 0))
    if not len(rows):
        return make_boxes()
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    # The images are BGR, and the labels number the channels.
    label = int(bright.flatten(1).sum(dim=1).argmax())
    return make_boxes((label, 0.95, [float(side) for side in box]))


def rectangle_teacher(**preprocessor) -> nn.Module:
    detector = tiny_detector('retinanet')
    detector.data_preprocessor.update(
        mean=[128.0] * 3, std=[128.0] * 3, bgr_to_rgb=False, **preprocessor
    )
    model = build(teacher_of(detector))

    def predict(inputs, samples, rescale):
        for image, sample in zip(inputs, samples):
            sample.pred_instances = find_rectangle(image, sample.img_shape)
        return samples

    model.teacher.predict = predict
    return model


def check_views(model: nn.Module, dataset) -> int:
    """Check that pseudo boxes are where the rectangles are; return the number of boxes."""
    count = 0
    for _ in range(3):
        data = pseudo_collate([dataset[i] for i in range(1, 9)])
        MessageHub.get_current_instance().update_info('iter', 0)
        data = model.data_preprocessor(data, True)
        model._split(*data.values())
        for image, sample in zip(data['inputs'], data['data_samples']):
            expected = find_rectangle(image, sample.img_shape)
            assert sample.gt_instances.labels.tolist() == expected.labels.tolist()
            torch.testing.assert_close(
                sample.gt_instances.bboxes, expected.bboxes, rtol=0, atol=1.5
            )
            count += len(expected)
    return count


@pytest.fixture
def numpy_seed():
    state = np.random.get_state()
    np.random.seed(0)
    yield
    np.random.set_state(state)


@pytest.mark.parametrize('weak', [None, [], WEAK], ids=['same view', 'image file', 'weak view'])
def test_pseudo_boxes_follow_the_views(rectangles, weak, numpy_seed):
    model = rectangle_teacher()
    assert check_views(model, rectangles(weak, STRONG)) > 16
    # The hidden boxes are in pixels of the file. The view without a teacher's view is a crop.
    assert weak is None or model.statistics.summary()['pseudo_precision'] == 1


def test_pseudo_boxes_follow_batch_augmentations(rectangles, numpy_seed):
    resize = dict(
        type='BatchSyncRandomResize', interval=1, size_divisor=32, random_size_range=(160, 160)
    )
    check_views(rectangle_teacher(batch_augments=[resize]), rectangles(WEAK, STRONG))


def test_pseudo_boxes_are_as_exact_in_mixed_precision(rectangles, numpy_seed):
    model = rectangle_teacher()
    data = pseudo_collate([rectangles(WEAK, STRONG)[i] for i in range(1, 5)])
    data = model.data_preprocessor(data, True)
    results = []
    for enabled in (False, True):
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            model._split(*data.values())
        results.append(torch.cat([sample.gt_instances.bboxes for sample in data['data_samples']]))
    assert torch.equal(*results) and len(results[0]) > 1


# Checkpoints and predictions


def test_teacher_starts_as_the_student(tmp_path):
    cfg = teacher_of(multi_task_cfg('rfcn'))
    model = build(cfg)
    student, teacher = model.student.state_dict(), model.teacher.state_dict()
    assert student.keys() == teacher.keys()
    assert all(map(torch.equal, student.values(), teacher.values()))
    assert not any(p.requires_grad for p in model.teacher.parameters())
    assert model.student.training and not model.teacher.training
    path = str(tmp_path / 'plain.pth')
    torch.save(dict(state_dict=build(tiny_detector('rfcn'), seed=5).state_dict()), path)
    loaded = build(dict(cfg, init_cfg=dict(type='Pretrained', checkpoint=path)))
    expected = torch.load(path)['state_dict']
    for part in (loaded.student, loaded.teacher):
        assert all(torch.equal(part.detector.state_dict()[k], v) for k, v in expected.items())


@pytest.mark.parametrize('to', [tiny_detector, multi_task_cfg])
@pytest.mark.parametrize('source', [tiny_detector, multi_task_cfg])
def test_checkpoints_of_one_detector_load_into_both(source, to, tmp_path):
    state = build(source('rfcn'), seed=5).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'x.pth')
    model = build(teacher_of(to('rfcn')))
    load_checkpoint(model, str(tmp_path / 'x.pth'), map_location='cpu')
    expected = {key.replace('detector.', ''): value for key, value in state.items()}
    for part in (model.student, model.teacher):
        loaded = {key.replace('detector.', ''): value for key, value in part.state_dict().items()}
        common = expected.keys() & loaded.keys()
        assert len(common) >= len(loaded) - 2  # all but the two parameters of the head
        assert (source is to) == (expected.keys() == loaded.keys())
        assert all(torch.equal(expected[key], loaded[key]) for key in common)
    if source is to:
        model.load_state_dict(state, strict=True)


def test_own_checkpoint_loads_exactly():
    model = build(teacher_of(tiny_detector('retinanet')))
    state = {
        key: torch.rand_like(value) if value.is_floating_point() else value + 3
        for key, value in model.state_dict().items()
    }
    model.load_state_dict(state, strict=True)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert {'iteration', 'thresholds.scores', 'statistics.counts'} <= set(state)


def test_checkpoint_of_another_architecture():
    model = build(teacher_of(tiny_detector('retinanet')))
    state = build(tiny_detector('rtmdet')).state_dict()
    with pytest.raises(ValueError, match='no weights of the detector, RetinaNet; .*backbone.stem'):
        model.load_state_dict(state, strict=False)


def test_checkpoint_with_some_of_the_weights(monkeypatch):
    """The backbone alone fits: one warning counts the others, but not those of the new head."""
    model = build(teacher_of(multi_task_cfg('retinanet')))
    state = build(tiny_detector('retinanet')).state_dict()
    missing = [key for key in state if key.startswith('bbox_head.')]
    messages = []
    monkeypatch.setattr(inner_detector, 'print_log', lambda text, *args: messages.append(text))
    model.load_state_dict(dict(state), strict=False)
    assert not messages
    model.load_state_dict({k: v for k, v in state.items() if k not in missing}, strict=False)
    assert len(messages) == 1 and f'lacks {len(missing)} of the ' in messages[0]


@pytest.mark.parametrize('predict_on', ['teacher', 'student'])
def test_predictions(predict_on):
    model = build(teacher_of(tiny_detector('rfcn'), semi_test_cfg=dict(predict_on=predict_on)))
    with torch.no_grad():
        for p in model.student.parameters():
            p.mul_(1.1)
    model.eval()
    results = []
    for part in (model, getattr(model, predict_on)):
        data = part.data_preprocessor(batch('x.'), False)
        results.append(part(**data, mode='predict')[1].pred_instances)
    assert torch.equal(results[0].scores, results[1].scores) and len(results[0])
    other = model.student if predict_on == 'teacher' else model.teacher
    data = other.data_preprocessor(batch('x.'), False)
    assert not equal(other(**data, mode='predict')[1].pred_instances.scores, results[0].scores)


# Training


@pytest.mark.parametrize('steps', [4, pytest.param(20, marks=pytest.mark.slow)])
def test_training(name, steps):
    """Each step moves the student; all losses are finite; the teacher follows."""
    model = build(teacher_of(finding(tiny_detector(name))))
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3), clip_grad=dict(max_norm=1.0))
    hook = MeanTeacherHook(momentum=0.1)
    for step in range(steps):
        before = [p.detach().clone() for p in model.parameters()]
        kinds = ('x.', '..', 'xx', '.x.')[step % 4]
        values = model.train_step(batch(kinds, seed=step), optim)
        assert all(value.isfinite().all() for value in values.values())
        hook.momentum_update(model, 0.1)
        changed = [not torch.equal(*pair) for pair in zip(before, model.parameters())]
        assert any(changed[: len(changed) // 2]) and any(changed[len(changed) // 2 :])
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert model.statistics.images[SEEN] > 0 and model.statistics.images[LEFT_OUT] == 0


# Errors


FIVE = dict(type='mmgwap.ImageClsHead', num_classes=5, in_channels=64)


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(boxes='files'), "boxes must be one of .*'files'"),
        (dict(thresholds=(0.9, 0.3)), r'thresholds .*\(0.9, 0.3\)'),
        (dict(thresholds=(-0.1, 0.3)), 'thresholds .*-0.1'),
        (dict(thresholds=(0.3,)), 'thresholds'),
        (dict(semi_test_cfg=dict(predict_on='techer')), "predict_on .*'techer'"),
        (dict(thresholds=(float('nan'), 0.3)), 'thresholds .*nan'),
        (
            dict(detector=dict(multi_task_cfg('retinanet'), cls_head=FIVE)),
            'num_classes=5.*num_classes=4',
        ),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build({**teacher_of(tiny_detector('retinanet')), **changes})


def test_students_with_masks(monkeypatch):
    monkeypatch.setattr(BaseDetector, 'with_mask', True)
    with pytest.raises(ValueError, match='pseudo boxes have no masks'):
        build(teacher_of(tiny_detector('retinanet')))
