"""WSOLMetric: all measures against loops, merged counts, logs and errors."""

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
    """Make the prediction of an ImageClassifier with six classes on a resized image."""
    generator = torch.Generator().manual_seed(seed)
    width, height = SIZES[image]
    result = DetDataSample(
        metainfo=dict(
            img_id=image,
            ori_shape=(height, width),
            img_shape=(64, 80),
            batch_input_shape=PADDED,
            flip=bool(flip),
            flip_direction=flip,
        )
    )
    result.pred_image_scores = torch.rand(6, generator=generator).softmax(0)
    result.pred_image_maps = torch.randn(6, 9, 12, generator=generator)
    labels = result.pred_image_scores.argsort(descending=True)[:5]
    boxes = torch.tensor(BOXES[image][0], dtype=torch.float32)
    shift = torch.randint(-5, 9, (5, 4), generator=generator)
    result.pred_instances = InstanceData(labels=labels, bboxes=boxes + shift)
    for name, value in fields.items():
        result.set_field(value, name)
    return result.to_dict()


def on_image(sample, label):
    """Resize the map of a class to the original image."""
    maps = sample['pred_image_maps'][label][None]
    flip = sample['flip_direction'] if sample['flip'] else None
    return resize_maps(maps, PADDED, (64, 80), sample['ori_shape'], flip)[0].numpy()


def build(root, **options):
    cfg = dict(metadata_root=str(root / 'metadata'), mask_root=str(root / 'masks'))
    return METRICS.build({'type': 'mmgwap.WSOLMetric', **cfg, **options})


def evaluate(metric, samples, size=None):
    for data_sample in samples:
        metric.process({}, [data_sample])
    results = metric.evaluate(len(samples) if size is None else size)
    return {name.split('/')[1]: value for name, value in results.items()}


@pytest.fixture
def split(tmp_path):
    write_split(tmp_path)
    return tmp_path


@pytest.fixture
def logged(monkeypatch):
    """Messages that are logged in the test."""
    messages = []
    for level in ('info', 'warning'):
        monkeypatch.setattr(MMLogger, level, lambda self, text, *args: messages.append(text))
    return messages


def is_correct(box, image):
    x1, y1, x2, y2 = box
    return max(wsol.iou([x1, y1, x2 - 1, y2 - 1], true_box) for true_box in BOXES[image]) >= 0.5


def loop_errors(samples):
    """Count the errors image by image, in percent."""
    names = ('top1_error', 'top5_error', 'loc_top1_error', 'loc_top5_error', 'gt_known')
    counts = dict.fromkeys(names, 0)
    for data_sample in samples:
        image = data_sample['img_id']
        label, instances = LABELS[image], data_sample['pred_instances']
        height, width = data_sample['ori_shape']
        ranking = sorted(range(6), key=lambda c: -data_sample['pred_image_scores'][c])
        right = []
        for guess, (x1, y1, x2, y2) in zip(instances['labels'], instances['bboxes'].tolist()):
            if data_sample['flip_direction'] == 'horizontal':  # boxes of the flipped view
                x1, x2 = width - x2, width - x1
            if data_sample['flip_direction'] == 'vertical':
                y1, y2 = height - y2, height - y1
            right.append(int(guess) == label and is_correct((x1, y1, x2, y2), image))
        (box,) = boxes_from_map(on_image(data_sample, label)).tolist()
        hits = (
            label != ranking[0],
            label not in ranking[:5],
            not right[0],
            not any(right),
            is_correct(box, image),
        )
        for name, hit in zip(names, hits):
            counts[name] += hit
    return {name: 100 * count / len(samples) for name, count in counts.items()}


def loop_maps(samples, size, interval):
    maps, boxes, masks = [], [], []
    for data_sample in samples:
        image = data_sample['img_id']
        width, height = SIZES[image]
        new = size or (height, width)
        scales = ((new[1], width), (new[0], height)) * 2
        maps.append(cv2.resize(on_image(data_sample, LABELS[image]), new[::-1]))
        boxes.append(
            [[int(x * up / down) for x, (up, down) in zip(box, scales)] for box in BOXES[image]]
        )
        masks.append(cv2.resize(true_mask(image), new[::-1], interpolation=cv2.INTER_NEAREST))
    return dict(
        wsol.box_accuracies(maps, boxes, interval, (0.3, 0.5, 0.7)),
        px_ap=wsol.px_ap(maps, masks, interval),
    )


@pytest.mark.parametrize('size, interval', [((56, 64), 0.001), (None, 0.01)])
def test_matches_the_loops(split, size, interval):
    flips = (None, 'horizontal', None, 'vertical', *[None] * 4)
    samples = [
        sample(image, seed, flip) for seed, (image, flip) in enumerate(zip([*SIZES] * 2, flips))
    ]
    found = evaluate(build(split, size=size, interval=interval), samples)
    expected = dict(loop_errors(samples), **loop_maps(samples, size, interval))
    assert found == pytest.approx(expected, rel=1e-9)  # the sums have another order
    assert 0 < found['loc_top5_error'] < 100  # some boxes are correct, others are not


def perfect(image, direction=None):
    """Make a prediction that is right in all measures, on a flipped view or without a flip."""
    width, height = SIZES[image]
    label, maps = LABELS[image], torch.zeros(6, height, width)
    x1, y1, x2, y2 = BOXES[image][-1]
    maps[label, y1 : y2 + 1, x1 : x2 + 1] = 1
    x2, y2 = x2 + 1, y2 + 1
    if direction in ('horizontal', 'diagonal'):
        maps, x1, x2 = maps.flip(2), width - x2, width - x1
    if direction in ('vertical', 'diagonal'):
        maps, y1, y2 = maps.flip(1), height - y2, height - y1
    result = sample(
        image,
        flip=direction,
        pred_image_maps=maps,
        pred_image_scores=torch.eye(6)[label],
        pred_instances=InstanceData(
            labels=torch.tensor([label]), bboxes=torch.tensor([[x1, y1, x2, y2]])
        ),
    )
    return dict(result, img_shape=(height, width), batch_input_shape=(height, width))


@pytest.mark.parametrize('direction', [None, 'horizontal', 'vertical', 'diagonal'])
def test_perfect_model(split, direction):
    samples = [perfect(image, direction) for image in SIZES if len(BOXES[image]) == 1]
    found = evaluate(build(split), samples)
    assert 0 <= found.pop('max_box_acc_threshold') < 1
    assert found.pop('px_ap') > 97  # the borders are resized
    errors = {name for name in found if name.endswith('error')}
    assert len(errors) == 4
    assert found == {name: 0 if name in errors else 100 for name in found}


def test_first_box_counts_for_top1_only_if_its_class_is_the_likeliest(split):
    data_sample = perfect('a/2.jpg')
    data_sample['pred_image_scores'] = torch.tensor([0.9, 0.1, 0, 0, 0, 0])
    found = evaluate(build(split), [data_sample])
    assert found['top1_error'] == found['loc_top1_error'] == 100
    assert found['top5_error'] == found['loc_top5_error'] == 0
    assert found['gt_known'] == 100  # the second of two true boxes


def test_constant_map_has_no_box(split):
    none = InstanceData(labels=torch.zeros(0, dtype=torch.long), bboxes=torch.zeros(0, 4))
    maps = torch.full((6, 9, 12), 0.1)
    found = evaluate(build(split), [sample('a/1.jpg', pred_image_maps=maps, pred_instances=none)])
    assert found['loc_top1_error'] == found['loc_top5_error'] == 100
    assert found['gt_known'] == found['max_box_acc_v2'] == 0


def test_merges_counts_of_two_processes(split):
    samples = [sample(image, seed) for seed, image in enumerate(SIZES)]
    samples += [dict(sample(image), unreadable=True) for image in ('b/4.jpg', 'b/3.jpg')]
    expected = evaluate(build(split), samples)
    first, second = build(split), build(split)
    first.process({}, samples[1:5])
    second.process({}, samples[5:])
    second.process({}, samples[:1])
    first.results += pickle.loads(pickle.dumps(second.results))
    assert evaluate(first, [], 6) == expected


def test_memory_does_not_grow(split):
    metric, sizes = build(split), []
    for seed in range(3):
        metric.process({}, [sample(image, seed) for image in SIZES])
        assert len(metric.results) == 1
        sizes.append(len(pickle.dumps(metric.results)))
    assert max(sizes) - min(sizes) < 16
    assert metric.evaluate(12) and metric.results == []


def test_warns_about_images_that_the_sampler_repeats(split, logged):
    samples = [sample(image) for image in SIZES]
    evaluate(build(split), samples)
    assert not any('twice' in line for line in logged)
    evaluate(build(split), samples, size=3)
    (line,) = (line for line in logged if 'twice' in line)
    assert 'counted 1 images twice' in line and 'round_up=False' in line


def test_logs_a_table(split, logged):
    found = evaluate(build(split), [sample(image) for image in SIZES])
    (table,) = (line for line in logged if 'max_box_acc_v2_70' in line)
    assert '4 images' in table and all(name in table for name in found)
    assert f'{found["px_ap"]:.2f}' in table


@pytest.mark.parametrize(
    'boxes, masks, mask_root, reason',
    [
        (BOXES, False, 'masks', 'none in localization.txt or masks'),
        (BOXES, True, '', 'mask_root is not set'),
        ({}, True, 'masks', 'measures of boxes'),
    ],
)
def test_leaves_out_measures_without_ground_truth(
    tmp_path, logged, boxes, masks, mask_root, reason
):
    write_split(tmp_path, boxes, masks)
    metric = build(tmp_path, mask_root=mask_root and str(tmp_path / mask_root))
    (line,) = (line for line in logged if 'leaves out' in line)
    assert reason in line
    found = evaluate(metric, [sample(image) for image in SIZES])
    assert {'top1_error', 'top5_error'} <= set(found)
    assert ('px_ap' in found) == bool(masks and mask_root)
    for name in ('gt_known', 'max_box_acc', 'max_box_acc_v2_30', 'loc_top1_error'):
        assert (name in found) == bool(boxes)


def test_reads_sizes_from_the_images(split):
    samples = [sample(image) for image in SIZES]
    expected = evaluate(build(split), samples)
    (split / 'metadata' / 'image_sizes.txt').unlink()
    assert evaluate(build(split), samples) == expected


NAN = float('nan')


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(img_id='c/9.jpg'), "'c/9.jpg' is not in image_ids.txt"),
        (dict(pred_image_maps=None), 'a/1.jpg.*with_maps=True'),
        (dict(pred_image_maps=torch.full((6, 9, 12), NAN)), 'a/1.jpg: .*2400 values'),
        (dict(pred_image_scores=torch.full((6,), NAN)), 'a/1.jpg: .*not finite'),
        (dict(pred_image_maps=torch.zeros(5, 9, 12)), 'a/1.jpg has class 0.*5'),
        (
            dict(pred_image_maps=torch.zeros(0, 9, 12), pred_image_scores=torch.zeros(0)),
            'a/1.jpg has class 0.* 0 scores',
        ),
        (dict(ori_shape=(60, 40)), 'a/1.jpg: .*40 x 60 px, image_sizes.txt .* 60 x 40'),
    ],
)
def test_names_faulty_predictions(split, change, message):
    with pytest.raises(ValueError, match=message):
        build(split).process({}, [dict(sample('a/1.jpg'), **change)])


def test_names_faulty_ground_truth(tmp_path):
    write_split(tmp_path, {image: BOXES[image] for image in list(SIZES)[:3]})
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
    'options',
    [dict(interval=0), dict(iou_thresholds=(2,)), dict(box_threshold=1.0), dict(size=(0, 5))],
)
def test_refuses_wrong_settings_at_the_start(split, options):
    with pytest.raises(ValueError, match=str(*options).replace('box_', '')):
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


def test_reads_ground_truth_from_a_storage_backend(split):
    register_backend('archive', ArchiveBackend, force=True)
    samples = [sample(image, seed) for seed, image in enumerate(SIZES)]
    options = dict(
        metadata_root='archive://metadata',
        mask_root='archive://masks',
        backend_args=dict(backend='archive', folder=str(split)),
    )
    found = evaluate(METRICS.build(dict(type='mmgwap.WSOLMetric', **options)), samples)
    assert found == evaluate(build(split), samples)
    (split / 'masks' / '2_0.png').unlink()
    with pytest.raises(FileNotFoundError, match='archive://masks/2_0.png: missing'):
        METRICS.build(dict(type='mmgwap.WSOLMetric', **options))


def test_refuses_to_evaluate_without_images(split):
    with pytest.raises(ValueError, match='no image was measured'):
        build(split).evaluate(0)
