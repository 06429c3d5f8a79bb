"""The metric: every figure against a loop, and what it says of faults."""

import logging
import pickle
from pathlib import Path

import cv2
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.fileio import BaseStorageBackend, register_backend
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData

from mmgwap.localization import boxes_from_map, resize_maps
from mmgwap.registry import METRICS

from ..references import wsol
from .wsol_split import BOXES, LABELS, SIZES, true_mask, write_split

PADDED = (72, 96)


def sample(image, seed=0, flip=None, **fields):
    """What an ImageClassifier of six classes says of a resized image."""
    generator = torch.Generator().manual_seed(seed)
    width, height = SIZES[image]
    one = DetDataSample(
        metainfo=dict(
            img_id=image,
            ori_shape=(height, width),
            img_shape=(64, 80),
            batch_input_shape=PADDED,
            flip=bool(flip),
            flip_direction=flip,
        )
    )
    one.pred_image_scores = torch.rand(6, generator=generator).softmax(0)
    one.pred_image_maps = torch.randn(6, 9, 12, generator=generator)
    labels = one.pred_image_scores.argsort(descending=True)[:5]
    boxes = torch.tensor(BOXES[image][0], dtype=torch.float32)
    shift = torch.randint(-5, 9, (5, 4), generator=generator)
    one.pred_instances = InstanceData(labels=labels, bboxes=boxes + shift)
    for name, value in fields.items():
        one.set_field(value, name)
    return one.to_dict()


def on_image(one, label):
    return resize_maps(
        one['pred_image_maps'][label][None],
        PADDED,
        (64, 80),
        one['ori_shape'],
        one['flip_direction'] if one['flip'] else None,
    )[0].numpy()


def build(root, **options):
    return METRICS.build(
        dict(
            type='mmgwap.WSOLMetric',
            **dict(
                dict(metadata_root=str(root / 'metadata'), mask_root=str(root / 'masks')), **options
            ),
        )
    )


def evaluate(metric, samples, size=None):
    for one in samples:
        metric.process({}, [one])
    return {
        name.split('/')[1]: value
        for name, value in metric.evaluate(len(samples) if size is None else size).items()
    }


@pytest.fixture
def split(tmp_path):
    write_split(tmp_path)
    return tmp_path


@pytest.fixture
def logged():
    """What is logged in the meantime."""
    records, logger = [], MMLogger.get_current_instance()
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: records.append(record.getMessage())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield records
    logger.removeHandler(handler)
    logger.setLevel(level)


def loop_errors(samples):
    """Image by image, in percent."""
    names = ('top1_error', 'top5_error', 'loc_top1_error', 'loc_top5_error', 'gt_known')
    counts = dict.fromkeys(names, 0)
    for one in samples:
        label, truth = LABELS[one['img_id']], BOXES[one['img_id']]
        ranking = sorted(range(6), key=lambda c: -one['pred_image_scores'][c])
        right = []
        for guess, (x1, y1, x2, y2) in zip(
            one['pred_instances']['labels'], one['pred_instances']['bboxes'].tolist()
        ):
            if one['flip_direction'] == 'horizontal':  # boxes of the view
                x1, x2 = one['ori_shape'][1] - x2, one['ori_shape'][1] - x1
            if one['flip_direction'] == 'vertical':
                y1, y2 = one['ori_shape'][0] - y2, one['ori_shape'][0] - y1
            right.append(
                int(guess) == label
                and max(wsol.iou([x1, y1, x2 - 1, y2 - 1], true) for true in truth) >= 0.5
            )
        x1, y1, x2, y2 = boxes_from_map(on_image(one, label))[0].tolist()
        for name, hit in zip(
            names,
            (
                label != ranking[0],
                label not in ranking[:5],
                not right[0],
                not any(right),
                max(wsol.iou([x1, y1, x2 - 1, y2 - 1], true) for true in truth) >= 0.5,
            ),
        ):
            counts[name] += hit
    return {name: 100 * count / len(samples) for name, count in counts.items()}


def loop_maps(samples, size, interval):
    maps, boxes, masks = [], [], []
    for one in samples:
        image = one['img_id']
        width, height = SIZES[image]
        new = size or (height, width)
        maps.append(cv2.resize(on_image(one, LABELS[image]), new[::-1]))
        boxes.append(
            [
                [
                    int(x1 * new[1] / width),
                    int(y1 * new[0] / height),
                    int(x2 * new[1] / width),
                    int(y2 * new[0] / height),
                ]
                for x1, y1, x2, y2 in BOXES[image]
            ]
        )
        masks.append(cv2.resize(true_mask(image), new[::-1], interpolation=cv2.INTER_NEAREST))
    return dict(
        wsol.box_accuracies(maps, boxes, interval, (0.3, 0.5, 0.7)),
        px_ap=wsol.px_ap(maps, masks, interval),
    )


@pytest.mark.parametrize('size, interval', [((56, 64), 0.001), (None, 0.01)])
def test_against_the_loops(split, size, interval):
    samples = [
        sample(image, seed, flip)
        for seed, (image, flip) in enumerate(
            [*zip(SIZES, (None, 'horizontal', None, 'vertical')), *zip(SIZES, [None] * 4)]
        )
    ]
    found = evaluate(build(split, size=size, interval=interval), samples)
    wanted = dict(loop_errors(samples), **loop_maps(samples, size, interval))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():  # added in another order
        assert found[name] == pytest.approx(value, rel=1e-9), name
    assert 0 < found['loc_top5_error'] < 100  # else they would show nothing


def drawn(image):
    """A prediction that is right in everything."""
    width, height = SIZES[image]
    label, maps = LABELS[image], torch.zeros(6, height, width)
    for x1, y1, x2, y2 in BOXES[image][-1:]:
        maps[label, y1 : y2 + 1, x1 : x2 + 1] = 1
    x1, y1, x2, y2 = BOXES[image][-1]
    one = sample(
        image,
        pred_image_maps=maps,
        pred_image_scores=torch.eye(6)[label],
        pred_instances=InstanceData(
            labels=torch.tensor([label]), bboxes=torch.tensor([[x1, y1, x2 + 1, y2 + 1]])
        ),
    )
    one.update(img_shape=(height, width), batch_input_shape=(height, width))
    return one


def test_a_perfect_model(split):
    images = [image for image in SIZES if len(BOXES[image]) == 1]
    found = evaluate(build(split), map(drawn, images), len(images))
    threshold = found.pop('max_box_acc_threshold')
    assert 0 <= threshold < 1
    assert found.pop('px_ap') > 97  # borders, resized
    errors = {name for name in found if name.endswith('error')}
    assert len(errors) == 4
    assert found == {name: 0 if name in errors else 100 for name in found}


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_a_perfect_model_that_was_shown_flipped_images(split, direction):
    images = [image for image in SIZES if len(BOXES[image]) == 1]
    plain = evaluate(build(split), map(drawn, images), len(images))
    axes = dict(horizontal=[2], vertical=[1], diagonal=[1, 2])[direction]
    flipped = []
    for image in images:
        one, (width, height) = drawn(image), SIZES[image]
        one['pred_image_maps'] = one['pred_image_maps'].flip(axes)
        ((x1, y1, x2, y2),) = one['pred_instances']['bboxes'].tolist()
        if 2 in axes:
            x1, x2 = width - x2, width - x1
        if 1 in axes:
            y1, y2 = height - y2, height - y1
        one['pred_instances']['bboxes'] = torch.tensor([[x1, y1, x2, y2]])
        flipped.append(dict(one, flip=True, flip_direction=direction))
    assert evaluate(build(split), flipped) == plain


def test_the_first_box_counts_if_it_is_of_the_likeliest_class(split):
    one = drawn('a/2.jpg')
    one['pred_image_scores'] = torch.tensor([0.9, 0.1, 0, 0, 0, 0])
    found = evaluate(build(split), [one])
    assert found['top1_error'] == found['loc_top1_error'] == 100
    assert found['top5_error'] == found['loc_top5_error'] == 0
    assert found['gt_known'] == 100  # the second of two boxes


@pytest.mark.parametrize('value', [0.0, 1.0, 0.1])
def test_a_constant_map_shows_nothing(split, value):
    one = sample(
        'a/1.jpg',
        pred_image_maps=torch.full((6, 9, 12), value),
        pred_instances=InstanceData(
            labels=torch.zeros(0, dtype=torch.long), bboxes=torch.zeros(0, 4)
        ),
    )
    found = evaluate(build(split), [one])
    assert found['loc_top1_error'] == found['loc_top5_error'] == 100
    assert found['gt_known'] == found['max_box_acc_v2'] == 0


def test_two_processes_count_as_one(split):
    samples = [sample(image, seed) for seed, image in enumerate(SIZES)]
    wanted = evaluate(build(split), samples)
    first, second = build(split), build(split)
    for one in samples[:1]:
        first.process({}, [one])
    second.process({}, samples[1:])
    first.results += pickle.loads(pickle.dumps(second.results))
    assert evaluate(first, [], 4) == wanted


def test_memory_does_not_grow(split):
    metric, sizes = build(split), []
    for seed in range(3):
        metric.process({}, [sample(image, seed) for image in SIZES])
        assert len(metric.results) == 1
        sizes.append(len(pickle.dumps(metric.results)))
    assert max(sizes) - min(sizes) < 16
    assert metric.evaluate(12) and metric.results == []


def test_images_that_were_doubled_are_told(split, logged):
    samples = [sample(image) for image in SIZES]
    evaluate(build(split), samples)
    assert not any('twice' in line for line in logged)
    evaluate(build(split), samples, size=3)
    (line,) = (line for line in logged if 'twice' in line)
    assert 'counted 1 images twice' in line and 'round_up=False' in line


def test_the_table(split, logged):
    found = evaluate(build(split), [sample(image) for image in SIZES])
    (table,) = (line for line in logged if 'max_box_acc_v2_70' in line)
    assert '4 images' in table and all(name in table for name in found)
    assert f'{found["px_ap"]:.2f}' in table


@pytest.mark.parametrize(
    'boxes, masks, root, missing, told',
    [
        (BOXES, False, 'masks', ['px_ap'], 'none in localization.txt or masks'),
        (BOXES, True, '', ['px_ap'], 'mask_root is not set'),
        (
            {},
            True,
            'masks',
            ['max_box_acc', 'gt_known', 'loc_top1_error', 'max_box_acc_v2_30'],
            'measures of boxes',
        ),
        ({}, False, '', ['px_ap', 'gt_known'], 'measures of boxes'),
    ],
)
def test_what_has_no_truth_is_left_out(tmp_path, logged, boxes, masks, root, missing, told):
    write_split(tmp_path, boxes, masks)
    metric = build(tmp_path, mask_root=root and str(tmp_path / root))
    (line,) = (line for line in logged if 'leaves out' in line)
    assert told in line
    found = evaluate(metric, [sample(image) for image in SIZES])
    assert not set(missing) & set(found)
    assert {'top1_error', 'top5_error'} <= set(found)
    assert ('px_ap' in found) == bool(masks and root)
    assert ('gt_known' in found) == bool(boxes)


def test_sizes_may_be_left_to_the_images(tmp_path):
    samples = [sample(image) for image in SIZES]
    write_split(tmp_path)
    wanted = evaluate(build(tmp_path), samples)
    (tmp_path / 'metadata' / 'image_sizes.txt').unlink()
    assert evaluate(build(tmp_path), samples) == wanted


@pytest.mark.parametrize(
    'change, told',
    [
        (dict(img_id='c/9.jpg'), "'c/9.jpg' is not in image_ids.txt"),
        (dict(pred_image_maps=None), 'a/1.jpg.*test_cfg.with_maps=True'),
        (
            dict(pred_image_maps=torch.full((6, 9, 12), float('nan'))),
            'a/1.jpg: .*2400 values of the score map are NaN',
        ),
        (dict(pred_image_scores=torch.full((6,), float('nan'))), 'a/1.jpg: scores are not finite'),
        (dict(pred_image_maps=torch.zeros(5, 9, 12)), 'a/1.jpg has class 0.*5'),
        (dict(ori_shape=(60, 40)), 'a/1.jpg: .*40 x 60 px, image_sizes.txt .* 60 x 40'),
    ],
)
def test_faulty_predictions_are_named(split, change, told):
    with pytest.raises(ValueError, match=told):
        build(split).process({}, [dict(sample('a/1.jpg'), **change)])


def test_a_class_without_a_map(split):
    one = sample('b/3.jpg')  # of class 2
    for name in ('pred_image_maps', 'pred_image_scores'):
        one[name] = one[name][:2]
    with pytest.raises(ValueError, match='b/3.jpg has class 2.*2 scores'):
        build(split).process({}, [one])


def test_faulty_truth_is_named_at_the_start(tmp_path):
    some = {image: BOXES[image] for image in list(SIZES)[:3]}
    write_split(tmp_path, some)
    with pytest.raises(ValueError, match='1 images have no boxes.*b/4.jpg'):
        build(tmp_path)
    write_split(tmp_path)
    (tmp_path / 'masks' / '2_0.png').unlink()
    with pytest.raises(FileNotFoundError, match='2_0.png: missing; 1 masks'):
        build(tmp_path)
    (tmp_path / 'masks' / '2_0.png').write_text('text')
    with pytest.raises(ValueError, match='b/3.jpg: .*2_0.png: OpenCV cannot read'):
        build(tmp_path).process({}, [sample('b/3.jpg')])


@pytest.mark.parametrize(
    'options, told',
    [
        (dict(interval=0), 'interval'),
        (dict(iou_thresholds=(2,)), 'iou_thr'),
        (dict(box_threshold=1.0), 'threshold must be'),
        (dict(size=(0, 5)), 'size'),
    ],
)
def test_wrong_settings_are_refused_at_the_start(split, options, told):
    with pytest.raises(ValueError, match=told):
        build(split, **options)


class ArchiveBackend(BaseStorageBackend):
    """Files of a folder under the scheme ``archive://``."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def path(self, name):
        assert name.startswith('archive://')
        return self.folder / name[len('archive://') :]

    def get(self, name):
        return self.path(name).read_bytes()

    def get_text(self, name, encoding='utf-8'):
        return self.path(name).read_text(encoding)

    def exists(self, name):
        return self.path(name).exists()

    def isfile(self, name):
        return self.path(name).is_file()

    def join_path(self, name, *names):
        return '/'.join([name, *names])


def test_ground_truth_of_a_storage_backend(split):
    register_backend('archive', ArchiveBackend, force=True)
    samples = [sample(image, seed) for seed, image in enumerate(SIZES)]
    remote = METRICS.build(
        dict(
            type='mmgwap.WSOLMetric',
            metadata_root='archive://metadata',
            mask_root='archive://masks',
            backend_args=dict(backend='archive', folder=str(split)),
        )
    )
    assert evaluate(remote, samples) == evaluate(build(split), samples)
    (split / 'masks' / '2_0.png').unlink()
    with pytest.raises(FileNotFoundError, match='archive://masks/2_0.png: missing'):
        build(
            split,
            metadata_root='archive://metadata',
            mask_root='archive://masks',
            backend_args=dict(backend='archive', folder=str(split)),
        )


def test_nothing_measured(split):
    with pytest.raises(ValueError, match='no image was measured'):
        build(split).evaluate(0)
