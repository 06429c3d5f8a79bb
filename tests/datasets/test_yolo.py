"""Images, label files and data.yaml in YOLO layout, whole and with faults."""

import json
import os
import re
import shutil
from fractions import Fraction
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmdet.structures import DetDataSample
from mmengine.dataset import ConcatDataset, pseudo_collate
from mmengine.structures import InstanceData
from PIL import Image

from mmgwap.datasets import CheckedCocoDataset, YOLODataset
from mmgwap.datasets.unreadable_images import UNKNOWN_SIDE
from mmgwap.datasets.yolo_files import TOLERANCE, label_path
from tests.toy_data import write_yolo
from tests.toy_data.drawing import scenes
from tests.toy_data.yolo import LAYOUTS, NAMES

from .bad_files import BAD_FILES
from .helpers import CLASSES, PIPELINE, captured_log, infos, partial, split_file, write_image

YAML = 'train: images/train\nnames: [cat, dog]\n'
LINE = '0 0.5 0.25 0.25 0.5\n'
BOX = [24, 0, 40, 24]  # of LINE on an image of 64 x 48
META_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances')
TEST_PIPELINE = [*PIPELINE[:-1], dict(type='PackDetInputs', meta_keys=META_KEYS)]


def write(root, labels=(LINE,), text=YAML, images='images/train'):
    """Write data.yaml, and an image for each text of a label file; None writes no label file."""
    for number, content in enumerate(labels):
        path = root / images / f'{number}.jpg'
        write_image(path, seed=number)
        path = Path(label_path(str(path)))
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if text is not None:
        (root / 'data.yaml').write_bytes(text if isinstance(text, bytes) else text.encode())


def load(root, **options):
    return YOLODataset(data_root=str(root), **dict(dict(serialize_data=False), **options))


def boxes_of(dataset):
    return [[obj['bbox'] for obj in info['instances']] for info in infos(dataset)]


def labels_of(dataset):
    return [[obj['bbox_label'] for obj in info['instances']] for info in infos(dataset)]


def ids_of(dataset):
    return [info['img_id'] for info in infos(dataset)]


@pytest.mark.parametrize('polygons', [False, True])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_read_toy_data(layout, polygons, tmp_path, warnings):
    root = write_yolo(tmp_path, layout, polygons=polygons)
    for number, (split, count) in enumerate(dict(train=10, val=4).items()):
        dataset = load(root, split=split)
        assert dataset.metainfo['classes'] == NAMES and len(dataset) == count
        drawn = list(scenes([range(len(NAMES))], count, (0, 9, number)))
        for index, (info, scene) in enumerate(zip(infos(dataset), drawn)):
            height, width = scene.image.shape[:2]
            assert (info['width'], info['height']) == (width, height)
            assert info['img_path'] == str(root / info['img_id'])
            assert re.fullmatch(rf'.*{split}_{index}\.jpg', info['img_id'])
            labels, boxes = scene.labels, scene.boxes
            if split == 'train' and index == 5 and layout != 'roboflow':
                labels, boxes = [], []
            assert [obj['bbox_label'] for obj in info['instances']] == labels
            for obj, (x, y, w, h) in zip(info['instances'], boxes):
                assert obj['bbox'] == pytest.approx([x, y, x + w, y + h], abs=1e-4)
                assert ('mask' in obj) == polygons and obj['ignore_flag'] == 0
                if polygons:
                    corners = [x, y, x + w, y, x + w, y + h, x, y + h]
                    assert obj['mask'] == [pytest.approx(corners, abs=1e-4)]
    assert warnings == []


@pytest.mark.parametrize('seed', range(3))
def test_boxes_in_pixels(seed, tmp_path):
    """Compare with exact arithmetic on the decimals of the file."""
    rng = np.random.RandomState(seed)
    lines, expected = [], []
    for number in range(40):
        values = [f'{x:.6f}' for x in rng.uniform(0.05, 0.95, rng.choice([4, 6, 8, 14]))]
        lines.append(' '.join([str(number % 2), *values]))
        x, y, *rest = map(Fraction, values)
        if len(values) == 4:
            sides = x - rest[0] / 2, y - rest[1] / 2, x + rest[0] / 2, y + rest[1] / 2
        else:
            xs, ys = [x, *rest[0::2]], [y, *rest[1::2]]
            sides = min(xs), min(ys), max(xs), max(ys)
        expected.append([float(s * size) for s, size in zip(sides, (64, 48, 64, 48))])
    write(tmp_path, ['\n'.join(lines)])
    dataset = load(tmp_path)
    (boxes,) = boxes_of(dataset)
    np.testing.assert_allclose(boxes, expected, rtol=0, atol=1e-9)
    assert labels_of(dataset) == [[0, 1] * 20]


def test_masks_of_polygons(tmp_path):
    write(tmp_path, ['1 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n'])
    pipeline = [PIPELINE[0], dict(PIPELINE[1], with_mask=True), PIPELINE[2]]
    instances = load(tmp_path, pipeline=pipeline)[0]['data_samples'].gt_instances
    expected = np.zeros((48, 64), np.uint8)
    expected[12:36, 16:48] = 1
    (mask,) = instances.masks.masks
    assert (mask == expected).mean() > 0.97 and instances.labels.tolist() == [1]
    assert instances.bboxes.tensor.tolist() == [[16, 12, 48, 36]]


BAD_YAML = [
    (b'\xff', ': not UTF-8 text'),
    ('', ': must have the keys names, train and val, got NoneType'),
    ('[a]', ': must have the keys .* got list'),
    ('names: [cat, dog', ': invalid YAML: .*line 1'),
    ('[' * 1500, ': invalid YAML'),
    ('a: 1\na: *b', ': invalid YAML: .*alias'),
    ('train: images/train', ': names must be .* but is missing'),
    ('names: cat', ": names must be .* got 'cat'"),
    ('names: []', r': names must be .* got \[\]'),
    ('names: {}', r': names must be .* got \[\]'),
    ('names: [cat, [dog]]', ': names must be .* got'),
    ("names: [cat, '']", ': names must be .* got'),
    ('names: [cat, cat]', ": names lists 'cat' 2 times"),
    ('names: {1: cat, 2: dog}', ': names must be numbered from 0 to 1, got the numbers 1, 2'),
    ('names: [cat, dog]\nnc: 3', ': nc is 3, but names lists 2 classes'),
    ('names: [cat, dog]\nnc: two', ': nc is two, but names lists 2 classes'),
    ('path: [a, b]\nnames: [cat, dog]', r': path must be a folder, got ..a'),
    ('names: [cat, dog]\nkpt_shape: [17, 3]', ': kpt_shape: labels with keypoints'),
    ('names: [cat, dog]', ': train must be .* but is missing'),
    ('names: [cat, dog]\ntrain: ', ": train must be .* got .''"),
    ('names: [cat, dog]\ntrain: {a: b}', ': train must be .* got {'),
    ('names: [cat, dog]\ntrain: images', None),
]


@pytest.mark.parametrize('text, message', BAD_YAML)
def test_name_the_fault_of_data_yaml(text, message, tmp_path):
    write(tmp_path, text=text)
    if message is None:
        assert boxes_of(load(tmp_path)) == [[BOX]]
        return
    with pytest.raises(ValueError, match=f'^{tmp_path}/data.yaml{message}') as caught:
        load(tmp_path)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    'names', ['[cat, dog]', '\n  - cat\n  - dog', '{1: dog, 0: cat}', '\n  0: cat\n  1: dog']
)
def test_forms_of_names(names, tmp_path):
    write(tmp_path, text=f'train: images/train\nnc: 2\nnames: {names}')
    assert load(tmp_path).metainfo['classes'] == ('cat', 'dog')


def test_names_are_text(tmp_path):
    write(tmp_path, text='train: images/train\nnames: [yes, 007, null, 1.0]')
    assert load(tmp_path).metainfo['classes'] == ('yes', '007', 'null', '1.0')


def test_missing_files(tmp_path):
    write(tmp_path, text=None)
    with pytest.raises(FileNotFoundError, match=f'{tmp_path}/data.yaml'):
        load(tmp_path)
    write(tmp_path, text='train: img\nnames: [cat]')
    with pytest.raises(FileNotFoundError, match=f'^{tmp_path}/data.yaml: img does not exist in'):
        load(tmp_path)
    write(tmp_path, text='train: list.txt\nnames: [cat]')
    (tmp_path / 'list.txt').write_text('images/train/0.jpg\n\nimages/train/9.jpg\n')
    image = f'{tmp_path}/images/train/9.jpg'
    with pytest.raises(FileNotFoundError, match=f'^{tmp_path}/list.txt, line 3: {image} does not'):
        load(tmp_path)


BAD_LINES = [
    ('0 0.5 0.5 0.1', 'must have 5 columns, .* got 4'),
    ('0 0.5 0.5 0.1 0.1 0.9', 'must have 5 columns, .* got 6; a sixth column, such as a score'),
    ('0 0.5 0.5 0.1 0.1 0.9 0.9 0.8', 'must have 5 columns, .* 3 points or more, got 8'),
    ('0,0.5,0.5,0.1,0.1', 'must have 5 columns, .* got 1'),
    ('cat 0.5 0.5 0.1 0.1', "must have numbers only, got 'cat 0.5"),
    ('0 0.5 0.5 0.1 x', "must have numbers only, got '0 0.5"),
    ('2 0.5 0.5 0.1 0.1', 'class 2 is not in names of data.yaml, which has the classes 0 to 1'),
    ('-1 0.5 0.5 0.1 0.1', 'class -1 is not in names'),
    ('0.5 0.5 0.5 0.1 0.1', 'class 0.5 is not in names'),
    ('nan 0.5 0.5 0.1 0.1', 'class nan is not in names'),
    ('0 320 240 32 48', r'coordinates must be in \[0, 1\], .* not pixels, got 320; 1 lines in 1'),
    ('0 0.5 0.5 0.5 1.02', r'coordinates must be in \[0, 1\], .* got 1.02; '),
    ('0 0.5 -0.02 0.5 0.5', r'coordinates must be in \[0, 1\], .* got -0.02; '),
    ('0 0.5 0.5 nan 0.5', r'coordinates must be in \[0, 1\], .* got nan; '),
    ('0 0.5 0.5 0.5 inf', r'coordinates must be in \[0, 1\], .* got inf; '),
    ('0 0.1 0.1 0.5 0.1 1.5 0.5', r'coordinates must be in \[0, 1\], .* got 1.5; '),
]


@pytest.mark.parametrize('line, message', BAD_LINES)
def test_name_the_fault_of_a_line(line, message, tmp_path):
    write(tmp_path, [LINE, f'\n{LINE}{line}\n'])
    where = f'{tmp_path}/labels/train/1.txt, line 3'
    with pytest.raises(ValueError, match=f'^{where}: {message}') as caught:
        load(tmp_path)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 400


def test_count_all_lines_in_pixels(tmp_path):
    write(tmp_path, [LINE, '0 9 9 9 9\n1 8 8 8 8', '0 7 7 7 7'])
    with pytest.raises(ValueError, match='1.txt, line 1: .* 3 lines in 2 label files'):
        load(tmp_path)


def test_not_text(tmp_path):
    write(tmp_path, [b'\xff\xfe0\x00'])
    with pytest.raises(ValueError, match=f'^{tmp_path}/labels/train/0.txt: not UTF-8 text'):
        load(tmp_path)


@pytest.mark.parametrize(
    'line', [LINE, f'\ufeff{LINE}', LINE.replace(' ', '\t'), f'\r\n{LINE}\r\n', f'0.0{LINE[1:]}']
)
def test_variants_of_a_line(line, tmp_path, warnings):
    write(tmp_path, [line])
    assert boxes_of(load(tmp_path)) == [[BOX]] and warnings == []


@pytest.mark.parametrize(
    'line, kept',
    [
        ('0 0.5 0.5 0 0.5', []),
        ('0 0.5 0.5 0.5 0', []),
        ('0 0.5 0.5 -0.005 0.5', []),
        ('0 0.25 0.5 0.75 0.5 0.5 0.5', []),  # corners on a line
        ('0 0 0 0.5 0.5', [[-16, -12, 16, 12]]),  # across the border
        (f'0 1 {1 + TOLERANCE} 0.25 0.5', [[56, 36.48, 72, 60.48]]),
        (f'0 {1 + TOLERANCE} 0.5 {TOLERANCE} 0.5', []),  # outside
    ],
)
def test_drop_degenerate_boxes(line, kept, tmp_path, warnings):
    write(tmp_path, [LINE, f'{line}\n1 0.5 0.5 0.5 0.5'])
    dataset = load(tmp_path)
    assert boxes_of(dataset) == [[BOX], [*map(pytest.approx, kept), [16, 12, 48, 36]]]
    assert [info['dropped_labels'] for info in infos(dataset)] == [[], [] if kept else [0]]
    if kept:
        assert warnings == []
    else:
        (message,) = warnings
        assert re.search('data.yaml: dropped 1 boxes .* 1 images, .*labels/train/1.txt$', message)


def test_drop_repeated_lines(tmp_path, warnings):
    polygon = '1 0 0 0.5 0 0.5 0.5\n'
    other = '1 0 0 0.5 0.5 0.5 0\n'  # another polygon in the same box
    same = '0.0 0.50 .25 0.25 5e-1\n'
    write(tmp_path, [LINE, polygon + LINE + other + same + LINE + polygon, LINE + LINE])
    assert labels_of(load(tmp_path)) == [[0], [1, 0, 1], [0]]
    (message,) = warnings
    assert message.endswith(
        f'dropped 4 repeated lines in 2 label files, the first in {tmp_path}/labels/train/1.txt, '
        'line 4'
    )


def log_of(root, **options):
    with captured_log(0) as messages:
        dataset = load(root, **options)
    return dataset, messages


def test_background(tmp_path, warnings):
    write(tmp_path, [LINE, '', None, ' \n\n', LINE])
    dataset, (message,) = log_of(tmp_path)
    assert labels_of(dataset) == [[0], [], [], [], [0]] and warnings == []
    folder = f'{tmp_path}/labels/train'
    image = f'{tmp_path}/images/train/2.jpg'
    assert message == (
        f'{tmp_path}/data.yaml, train: 5 images, 1 without a label file, such as {image}, which '
        f'would have {folder}/2.txt, 2 with an empty label file, such as {folder}/1.txt; these '
        'count as background'
    )


def test_warn_if_most_images_have_no_label_file(tmp_path, warnings):
    write(tmp_path, [LINE, '', None, None])
    load(tmp_path)
    assert warnings == []
    write(tmp_path, [LINE, '', None, None, None])
    load(tmp_path)
    (message,) = warnings
    assert '5 images, 3 without a label file' in message


def test_no_label_file_at_all(tmp_path, warnings):
    write(tmp_path, [None, None])
    message = f'^{tmp_path}/data.yaml, train: 2 images, 2 without a label file, .*/0.txt$'
    with pytest.raises(ValueError, match=message):
        load(tmp_path)
    assert warnings == []
    assert labels_of(load(tmp_path, test_mode=True)) == [[], []]
    assert len(warnings) == 1


def test_label_files_without_image(tmp_path, warnings):
    write(tmp_path, [LINE] * 3)
    (tmp_path / 'images/train/1.jpg').rename(tmp_path / 'images/train/1.gif')
    (tmp_path / 'labels/train/more').mkdir()
    (tmp_path / 'labels/train/more/2.txt').write_text(LINE)
    (tmp_path / 'labels/train/classes.txt').write_text('cat\ndog\n')  # LabelImg
    (tmp_path / 'labels/train.cache').write_text('of Ultralytics')
    assert len(load(tmp_path)) == 2
    (message,) = warnings
    assert message.endswith(
        f'train: 2 label files have no image, such as {tmp_path}/labels/train/1.txt'
    )


@pytest.mark.parametrize(
    'image, label',
    [
        ('images/a.jpg', 'labels/a.txt'),
        ('d/images/train/b/a.x.JPG', 'd/labels/train/b/a.x.txt'),
        ('/images/a/images/b.png', '/images/a/labels/b.txt'),
        ('d/myimages/a.jpg', 'd/myimages/a.txt'),
        ('train/images/images.jpg', 'train/labels/images.txt'),
    ],
)
def test_path_of_the_label_file(image, label):
    assert label_path(image) == label
    # Ultralytics, whose paths are absolute.
    by_rule = '/labels/'.join(f'/{image}'.rsplit('/images/', 1)).rsplit('.', 1)[0] + '.txt'
    assert by_rule.lstrip('/') == label.lstrip('/')


@pytest.mark.parametrize(
    'text, images, ids',
    [
        ('train: images/train', 'images/train', ['images/train/0.jpg']),
        ('train: ./images/train/', 'images/train', ['images/train/0.jpg']),
        ('path: .\ntrain: images', 'images/train', ['images/train/0.jpg']),
        ('path: set\ntrain: images/a', 'set/images/a', ['images/a/0.jpg']),
        ('train: ../train/images', 'train/images', ['train/images/0.jpg']),
        ('train: photos', 'photos', ['photos/0.jpg']),  # label files beside the images
        ('path: HOME/set\ntrain: images', 'set/images', ['images/0.jpg']),
        ('train: HOME/set/images', 'set/images', ['set/images/0.jpg']),
        ('train: [set/images, images]', 'set/images', ['set/images/0.jpg', 'images/0.jpg']),
        ('train: set', 'set/a/images', ['set/a/images/0.jpg']),
    ],
)
def test_paths(text, images, ids, tmp_path, warnings):
    if len(ids) > 1:
        write(tmp_path, images='images')
    write(tmp_path, text=f'{text.replace("HOME", str(tmp_path))}\nnames: [cat, dog]', images=images)
    dataset = load(tmp_path)
    assert ids_of(dataset) == ids and boxes_of(dataset) == [[BOX]] * len(ids)
    assert warnings == []


@pytest.mark.parametrize('root', ['/content/set', '../datasets/set'])
def test_root_of_another_machine(root, tmp_path, warnings):
    write(tmp_path, text=f'path: {root}\n{YAML}')
    assert ids_of(load(tmp_path)) == ['images/train/0.jpg']
    (message,) = warnings
    assert f'{tmp_path}/data.yaml: path {root} has no images/train; {tmp_path}/images' in message


def test_relative_data_root(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    for dataset in (YOLODataset(), load(Path(f'../{tmp_path.name}'))):
        assert ids_of(dataset) == ['images/train/0.jpg'] and boxes_of(dataset) == [[BOX]]


def test_list_of_images(tmp_path):
    write(tmp_path, [LINE] * 4, 'train: lists/train.txt\nnames: [cat, dog]')
    (tmp_path / 'lists').mkdir()
    lines = ['./../images/train/2.jpg', '', f'{tmp_path}/images/train/0.jpg ']
    (tmp_path / 'lists/train.txt').write_text('\n'.join(lines))
    assert ids_of(load(tmp_path)) == ['images/train/2.jpg', 'images/train/0.jpg']
    (tmp_path / 'lists/train.txt').write_text('\n'.join([*lines, '../images/train/2.jpg']))
    with pytest.raises(ValueError, match=f'^{tmp_path}/lists/train.txt, line 4: .*/2.jpg occurs'):
        load(tmp_path)


def test_folders_without_images(tmp_path):
    write(tmp_path)
    (tmp_path / 'images/train/0.jpg').unlink()
    with pytest.raises(ValueError, match='data.yaml: train: .*/images/train holds no image .*.jpg'):
        load(tmp_path)


def test_classes_of_the_config(tmp_path):
    write(tmp_path, [LINE, f'1{LINE[1:]}'])
    assert labels_of(load(tmp_path)) == [[0], [1]]
    assert labels_of(load(tmp_path, metainfo=dict(classes=('dog', 'cat')))) == [[1], [0]]
    with pytest.raises(ValueError, match=r"data.yaml: names lacks 'Cat', .* \('cat', 'dog'\)$"):
        load(tmp_path, metainfo=dict(classes=('Cat', 'dog')))


@pytest.mark.parametrize('limit, is_valid', [(2, True), (1, False)])
def test_box_limit(limit, is_valid, tmp_path):
    write(tmp_path, [LINE + '1 0.5 0.5 0.5 0.5'])
    if is_valid:
        assert len(boxes_of(load(tmp_path, max_boxes_per_image=limit))[0]) == 2
        return
    with pytest.raises(ValueError, match='labels/train/0.txt: has 2 boxes, .*=1;'):
        load(tmp_path, max_boxes_per_image=limit)


def test_filter(tmp_path):
    write(tmp_path, [LINE, '', LINE])
    write_image(tmp_path / 'images/train/2.jpg', (48, 20))
    for cfg, kept in (
        (None, [0, 1, 2]),
        (dict(filter_empty_gt=True), [0, 2]),
        (dict(filter_empty_gt=False, min_size=21), [0, 1]),
    ):
        names = [f'images/train/{number}.jpg' for number in kept]
        assert ids_of(load(tmp_path, filter_cfg=cfg)) == names
        assert len(load(tmp_path, filter_cfg=cfg, test_mode=True)) == 3
    with pytest.raises(ValueError, match='data.yaml: no image left to train'):
        load(tmp_path, filter_cfg=dict(min_size=49))


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif', '.webp'])
@pytest.mark.parametrize('orientation', [None, 1, 3, 6, 8])
def test_sizes_are_those_of_the_pipelines(suffix, orientation, tmp_path):
    write(tmp_path)
    (tmp_path / 'images/train/0.jpg').unlink()
    path = tmp_path / f'images/train/0{suffix}'
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new('RGB', (64, 48)).save(path, exif=exif)
    (info,) = infos(load(tmp_path))
    loaded = mmcv.imread(str(path), backend='pillow').shape[1::-1]
    assert (info['width'], info['height']) == loaded
    assert loaded == ((48, 64) if orientation in (6, 8) else (64, 48))
    if suffix == '.jpg':
        assert mmcv.imread(str(path), backend='cv2').shape[1::-1] == loaded


def test_read_headers_only(tmp_path, monkeypatch):
    for suffix in ('.png', '.jpg'):
        write(tmp_path)
        (tmp_path / 'images/train/0.jpg').unlink()
        path = tmp_path / f'images/train/0{suffix}'
        Image.new('RGB', (64, 48)).save(path)
        monkeypatch.setattr(Image.Image, 'load', None)
        assert boxes_of(load(tmp_path)) == [[BOX]]
        monkeypatch.undo()
        path.unlink()


@pytest.mark.parametrize('kind', ['empty', 'text', 'huge_png'])
def test_size_of_an_unreadable_image(kind, tmp_path, warnings):
    write(tmp_path, [LINE, LINE])
    image = tmp_path / 'images/train/1.jpg'
    image.write_bytes(BAD_FILES[kind])
    with pytest.raises(ValueError, match=f"^{image} cannot be read, .*on_bad_image='skip'"):
        load(tmp_path)
    options = dict(on_bad_image='skip', pipeline=PIPELINE, test_mode=True)
    dataset = load(tmp_path, **options)
    (message,) = warnings
    assert str(image) in message
    # The blank image has the objects of the label file, which count as missed.
    dataset.drops_predictions = True
    sample = dataset[1]['data_samples']
    assert sample.unreadable and sample.ori_shape == (UNKNOWN_SIDE, UNKNOWN_SIDE)
    assert sample.gt_instances.bboxes.tensor.tolist() == [[12, 0, 20, 16]]


def test_partial_boxes(tmp_path):
    write(tmp_path, [LINE, f'1{LINE[1:]}', LINE + '1 0.5 0.5 0 0', '', None])
    cfg = dict(type='mmgwap.YOLODataset', data_root=str(tmp_path), pipeline=PIPELINE)
    dataset = partial(cfg, split_file=split_file(tmp_path, 'images/train/0.jpg'))
    assert dataset.boxed.tolist() == [True] + [False] * 4
    samples = [dataset[index]['data_samples'] for index in range(5)]
    assert [sample.has_boxes for sample in samples] == dataset.boxed.tolist()
    assert [sample.gt_image_labels.tolist() for sample in samples] == [[0], [1], [0], [], []]
    unknown = [[], [], [1], [0, 1], [0, 1]]
    assert [sample.ignored_image_labels.tolist() for sample in samples] == unknown
    assert samples[1].hidden_instances.bboxes.tolist() == [BOX]
    assert samples[0].gt_instances.bboxes.tensor.tolist() == [BOX]
    with pytest.raises(TypeError, match="flag='f'.*got YOLODataset; use split_file"):
        partial(cfg, flag='f')


def predictions(dataset, shift):
    """Return data samples with the true boxes, shifted, and false boxes, as predictions."""
    samples = []
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        true = sample.gt_instances
        boxes = torch.cat([true.bboxes.tensor + shift, torch.tensor([[1.0, 1, 9, 9]])])
        labels = torch.cat([true.labels, torch.tensor([index % 3])])
        scores = torch.linspace(0.9, 0.3, len(boxes))
        sample.pred_instances = InstanceData(bboxes=boxes, labels=labels, scores=scores)
        samples.append(sample.to_dict())
    return samples


def measure(metric, dataset, samples):
    metric.dataset_meta = dataset.metainfo
    for sample in samples:
        metric.process({}, [sample])
    return metric.evaluate(len(samples))


def convert(tool, root, out, *options, **variables):
    return tool(
        'tools/dataset_converters/yolo_to_coco.py', root / 'data.yaml', out, *options, **variables
    )


@pytest.mark.parametrize('polygons', [False, True])
def test_measure_and_convert(polygons, tool, tmp_path):
    """CocoMetric gives the same from the data set as from the converted file."""
    root = write_yolo(tmp_path, val=6, polygons=polygons)
    done = convert(tool, root, tmp_path / 'json')
    assert re.search(r'val.json: 6 images of 3 classes, \d+ boxes', done.stdout)
    own = load(root, split='val', pipeline=TEST_PIPELINE, test_mode=True)
    for split in ('train', 'val'):
        dataset = load(root, split=split)
        coco = CheckedCocoDataset(
            ann_file=str(tmp_path / f'json/{split}.json'),
            metainfo=dict(classes=NAMES),
            data_prefix=dict(img=str(root)),
            serialize_data=False,
        )
        assert labels_of(coco) == labels_of(dataset)
        for info, other in zip(infos(dataset), infos(coco)):
            for key in ('img_path', 'width', 'height'):
                assert info[key] == other[key]
            for obj, same in zip(info['instances'], other['instances']):
                assert same['bbox'] == pytest.approx(obj['bbox'], abs=2e-3)
                assert ('mask' in same) == polygons
                if polygons:
                    assert same['mask'] == [pytest.approx(obj['mask'][0], abs=1e-3)]
    perfect = measure(CocoMetric(), own, predictions(own, 0.0))
    assert perfect['coco/bbox_mAP'] > 0.9
    shifted = predictions(own, 2.0)
    found = measure(CocoMetric(), own, shifted)
    assert 0.1 < found['coco/bbox_mAP'] < perfect['coco/bbox_mAP']
    ids = {name: i for i, name in enumerate(ids_of(own), 1)}
    shifted = [dict(sample, img_id=ids[sample['img_id']]) for sample in shifted]
    assert measure(CocoMetric(str(tmp_path / 'json/val.json')), own, shifted) == found


def test_convert_chosen_splits(tool, tmp_path):
    write(tmp_path, text=f'{YAML}test: ../test/images')
    done = convert(tool, tmp_path, tmp_path, check=False)
    assert done.returncode == 1 and (tmp_path / 'train.json').exists()
    assert re.search('data.yaml: ../test/images does not exist .*; --splits', done.stderr)
    done = convert(tool, tmp_path, tmp_path, '--splits', 'train', '--force')
    assert 'train.json: 1 images of 2 classes, 1 boxes' in done.stdout


def test_converter_names_faults(tool, tmp_path):
    write(tmp_path, [LINE, '5 0.5 0.5 0.5 0.5'])
    done = convert(tool, tmp_path, tmp_path, check=False)
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith(f'{tmp_path}/labels/train/1.txt, line 1: class 5 is not in names')
    )
    assert not (tmp_path / 'train.json').exists()
    (tmp_path / 'train.json').touch()
    done = convert(tool, tmp_path, tmp_path, check=False)
    assert f'{tmp_path}/train.json exists already; --force' in done.stderr


def write_from_coco(content, images, root):
    """Write a data set in COCO format in YOLO layout, with links to its images."""
    folders = [root / name / 'train' for name in ('images', 'labels')]
    for folder in folders:
        folder.mkdir(parents=True)
    numbers = {category['id']: i for i, category in enumerate(content['categories'])}
    lines = {image['id']: [] for image in content['images']}
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    for ann in content['annotations']:
        (width, height), (x, y, w, h) = sizes[ann['image_id']], ann['bbox']
        values = (x + w / 2) / width, (y + h / 2) / height, w / width, h / height
        number = numbers[ann['category_id']]
        lines[ann['image_id']].append(f'{number} {" ".join(f"{v:.7f}" for v in values)}\n')
    for image in content['images']:
        name = Path(image['file_name'])
        os.symlink(images / name, folders[0] / name.name)
        (folders[1] / f'{name.stem}.txt').write_text(''.join(lines[image['id']]))
    names = '\n'.join(f'  {i}: {c["name"]}' for i, c in enumerate(content['categories']))
    (root / 'data.yaml').write_text(f'train: images/train\nnames:\n{names}\n')


def compare_with_coco(path, images, root):
    """Convert a COCO file to YOLO layout, and compare both data sets; return the box count."""
    content = json.loads(path.read_text())
    write_from_coco(content, images, root)
    classes = tuple(category['name'] for category in content['categories'])
    coco = CheckedCocoDataset(
        ann_file=str(path), metainfo=dict(classes=classes), data_prefix=dict(img=str(images))
    )
    of_coco = {Path(info['img_path']).name: info for info in infos(coco)}
    dataset = load(root)
    assert dataset.metainfo['classes'] == classes and len(dataset) == len(of_coco)
    count = 0
    for info in infos(dataset):
        other = of_coco[Path(info['img_path']).name]
        assert (info['width'], info['height']) == (other['width'], other['height'])
        labels = [obj['bbox_label'] for obj in info['instances']]
        assert labels == [obj['bbox_label'] for obj in other['instances']]
        for obj, same in zip(info['instances'], other['instances']):
            assert obj['bbox'] == pytest.approx(same['bbox'], abs=1e-3)
        count += len(labels)
    return count


def test_round_trip_from_coco(tmp_path, warnings):
    rng = np.random.RandomState(0)
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=64, height=48) for i in range(6)],
        categories=[dict(id=3, name='cat'), dict(id=9, name='dog')],
        annotations=[],
    )
    for number in range(25):
        x, y = rng.uniform(-2, 40, 2).round(2).tolist()
        w, h = rng.uniform(5, 30, 2).round(2).tolist()
        content['annotations'].append(
            dict(
                id=number,
                image_id=number % 5,
                category_id=(3, 9)[number % 2],
                bbox=[x, y, w, h],
                area=w * h,
                iscrowd=0,
            )
        )
    for image in content['images']:
        write_image(tmp_path / 'img' / image['file_name'])
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    assert compare_with_coco(tmp_path / 'coco.json', tmp_path / 'img', tmp_path / 'yolo') == 25
    assert warnings == []


@pytest.mark.parametrize('split, boxes', [('train', 3105), ('val', 1065)])
def test_photographs(split, boxes, highway, tmp_path):
    path = highway / 'annotations' / f'{split}.json'
    assert compare_with_coco(path, highway / 'images', tmp_path) == boxes


def test_beside_other_data_sets(tmp_path):
    """Parts of a ConcatDataset need the same metainfo."""
    write(tmp_path)
    shutil.copytree(tmp_path, tmp_path / 'again')
    parts = [
        load(root, metainfo=CLASSES, pipeline=PIPELINE) for root in (tmp_path, tmp_path / 'again')
    ]
    batch = pseudo_collate([ConcatDataset(parts)[index] for index in range(2)])
    assert all(isinstance(sample, DetDataSample) for sample in batch['data_samples'])
