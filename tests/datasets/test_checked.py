"""Bad annotations: dropped with one warning, or refused by name."""

import json
import math
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets import XMLDataset
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.dataset import pseudo_collate

from mmgwap.datasets import CheckedCocoDataset, CheckedXMLDataset
from mmgwap.datasets.annotation_checks import is_degenerate
from tests.toy_data import tiny_rfcn

register_all_modules()
CLASSES = dict(classes=('cat', 'dog'))
GOOD = [10, 10, 40, 30]  # x1, y1, x2, y2 on an image of 64 x 48
BAD = dict(
    zero_width=[10, 10, 10, 30],
    zero_height=[10, 10, 40, 10],
    inverted=[40, 30, 10, 10],
    nan=[10, math.nan, 40, 30],
    infinite=[10, 10, math.inf, 30],
    left_of_it=[-30, 10, -2, 30],
    right_of_it=[70, 10, 90, 30],
    below_it=[10, 50, 40, 60],
)
PIPELINE = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs'),
]


def write_images(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image = np.random.RandomState(index).randint(0, 255, (48, 64, 3))
        cv2.imwrite(str(folder / f'{index}.jpg'), image.astype(np.uint8))


def write_coco(root, boxes, names=('cat', 'dog')):
    """``boxes``: for each image a list of (box, category name)."""
    write_images(root / 'img', len(boxes))
    ids = {name: 5 + index for index, name in enumerate(names)}
    annotations = []
    for image, of_image in enumerate(boxes):
        for (x1, y1, x2, y2), name in of_image:
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image,
                    iscrowd=0,
                    category_id=ids.get(name, 99),
                    area=100,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                )
            )
    (root / 'coco.json').write_text(
        json.dumps(
            dict(
                images=[
                    dict(id=i, file_name=f'{i}.jpg', width=64, height=48) for i in range(len(boxes))
                ],
                annotations=annotations,
                categories=[dict(id=i, name=name) for name, i in ids.items()],
            )
        )
    )


def write_voc(root, boxes):
    write_images(root / 'JPEGImages', len(boxes))
    (root / 'Annotations').mkdir(exist_ok=True)
    for image, of_image in enumerate(boxes):
        tree = ElementTree.Element('annotation')
        size = ElementTree.SubElement(tree, 'size')
        ElementTree.SubElement(size, 'width').text = '64'
        ElementTree.SubElement(size, 'height').text = '48'
        for box, name in of_image:
            obj = ElementTree.SubElement(tree, 'object')
            ElementTree.SubElement(obj, 'name').text = name
            place = ElementTree.SubElement(obj, 'bndbox')
            for side, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), box):
                ElementTree.SubElement(place, side).text = str(value)
        ElementTree.ElementTree(tree).write(root / 'Annotations' / f'{image}.xml')
    (root / 'voc.txt').write_text('\n'.join(map(str, range(len(boxes)))))


def load(kind, root, boxes, **options):
    options = dict(dict(metainfo=CLASSES, pipeline=PIPELINE), **options)
    if kind == 'coco':
        write_coco(root, boxes)
        return CheckedCocoDataset(
            data_root=str(root), ann_file='coco.json', data_prefix=dict(img='img/'), **options
        )
    write_voc(root, boxes)
    return CheckedXMLDataset(
        data_root=str(root), ann_file='voc.txt', data_prefix=dict(sub_data_root=''), **options
    )


@pytest.mark.parametrize('bad', BAD.values(), ids=BAD.keys())
def test_is_degenerate(bad):
    assert is_degenerate([GOOD, bad, GOOD], 64, 48).tolist() == [False, True, False]


def test_boxes_that_reach_over_the_border_are_kept():
    boxes = [[-5, -5, 3, 3], [60, 40, 90, 90], [0, 0, 64, 48], [63.5, 47.5, 64, 48]]
    assert not is_degenerate(boxes, 64, 48).any()
    assert is_degenerate(boxes, 64, 48, min_size=1).tolist() == [False, False, False, True]
    assert is_degenerate([], 64, 48).shape == (0,)


@pytest.mark.parametrize('kind', ['coco', 'voc'])
def test_bad_boxes_are_dropped_with_one_warning(kind, tmp_path, warnings):
    boxes = [[(GOOD, 'cat')]]
    boxes += [[(bad, 'dog'), (GOOD, 'dog')] for bad in BAD.values()]
    dataset = load(kind, tmp_path, boxes)
    shift = 1 if kind == 'voc' else 0
    for index in range(len(boxes)):
        instances = dataset.get_data_info(index)['instances']
        assert [instance['bbox'] for instance in instances] == [[x - shift for x in GOOD]]
    assert len(warnings) == 1
    assert f'dropped {len(BAD)} boxes' in warnings[0]
    assert f'in {len(BAD)} images, the first in ' in warnings[0]
    first = '1.jpg' if kind == 'coco' else '1.xml'
    assert warnings[0].endswith(first)


@pytest.mark.parametrize('kind', ['coco', 'voc'])
def test_good_boxes_give_no_warning(kind, tmp_path, warnings):
    load(kind, tmp_path, [[(GOOD, 'cat')], []])
    assert warnings == []


@pytest.mark.parametrize('kind', ['coco', 'voc'])
def test_an_image_without_objects_is_kept(kind, tmp_path):
    dataset = load(kind, tmp_path, [[(GOOD, 'cat')], [], [(BAD['inverted'], 'dog')]])
    assert len(dataset) == 3
    for index in (1, 2):
        sample = dataset[index]['data_samples']
        assert sample.gt_instances.bboxes.shape == (0, 4)


@pytest.mark.parametrize('kind, place', [('coco', 'coco.json, annotation 2'), ('voc', '1.xml')])
def test_an_unlisted_category_is_named(kind, place, tmp_path):
    boxes = [[(GOOD, 'cat')], [(GOOD, 'dog')]]
    only_cats = dict(classes=('cat',))
    with pytest.raises(ValueError, match=f"{place}: category 'dog' is not"):
        load(kind, tmp_path, boxes, metainfo=only_cats)
    dataset = load(kind, tmp_path, boxes, metainfo=only_cats, unlisted_categories='ignore')
    assert [len(dataset.get_data_info(i)['instances']) for i in range(2)] == [1, 0]
    with pytest.raises(ValueError, match="'error' or 'ignore', got 'no'"):
        load(kind, tmp_path, boxes, unlisted_categories='no')


def test_an_annotation_of_no_category_is_named(tmp_path):
    with pytest.raises(ValueError, match="annotation 1: category 'id 99'"):
        load('coco', tmp_path, [[(GOOD, 'bird')]])


@pytest.mark.parametrize('classes', [('cat', 'horse', 'dog'), ('dog', 'cat')])
def test_classes_other_than_the_files_are_named(tmp_path, classes):
    """mmdet would call a dog a horse, and a cat a dog."""
    with pytest.raises(
        ValueError, match=r"coco.json: the classes of the config.*in the file, \('cat', 'dog'\)"
    ):
        load('coco', tmp_path, [[(GOOD, 'dog')]], metainfo=dict(classes=classes))


def test_a_size_that_is_not_known_drops_nothing(tmp_path):
    load('voc', tmp_path, [[(GOOD, 'cat')]])
    path = tmp_path / 'Annotations' / '0.xml'
    path.write_text(path.read_text().replace('>64<', '>0<').replace('>48<', '>0<'))
    dataset = CheckedXMLDataset(
        data_root=str(tmp_path),
        ann_file='voc.txt',
        metainfo=CLASSES,
        data_prefix=dict(sub_data_root=''),
    )
    assert len(dataset.get_data_info(0)['instances']) == 1


@pytest.mark.parametrize(
    'dataset_type, is_finite', [(CheckedXMLDataset, True), (XMLDataset, False)]
)
def test_training_on_bad_boxes_stays_finite(tmp_path, dataset_type, is_finite):
    """And would not without the check."""
    load('voc', tmp_path, [[(BAD['zero_width'], 'dog'), (GOOD, 'cat')]] * 2)
    dataset = dataset_type(
        data_root=str(tmp_path),
        ann_file='voc.txt',
        metainfo=CLASSES,
        data_prefix=dict(sub_data_root=''),
        pipeline=PIPELINE,
    )
    torch.manual_seed(0)
    model = MODELS.build(tiny_rfcn(num_classes=2))
    data = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), True)
    losses = model(**data, mode='loss')
    assert bool(torch.isfinite(model.parse_losses(losses)[0])) == is_finite


@pytest.mark.parametrize('kind', ['coco', 'voc'])
@pytest.mark.parametrize(
    'boxes, options', [([], {}), ([[]], dict(filter_cfg=dict(filter_empty_gt=True)))]
)
def test_an_empty_data_set_is_named(kind, boxes, options, tmp_path):
    name = 'coco.json' if kind == 'coco' else 'voc.txt'
    with pytest.raises(ValueError, match=f'{name}: no image left to train'):
        load(kind, tmp_path, boxes, **options)


def image_of(kind, root, index):
    return root / ('img' if kind == 'coco' else 'JPEGImages') / f'{index}.jpg'


@pytest.mark.parametrize('kind', ['coco', 'voc'])
@pytest.mark.parametrize('damage', ['truncated', 'missing', 'text', 'empty'])
def test_an_image_that_does_not_load_is_named(kind, damage, tmp_path):
    dataset = load(kind, tmp_path, [[(GOOD, 'cat')]] * 2)
    path = image_of(kind, tmp_path, 1)
    whole = path.read_bytes()
    if damage == 'missing':
        path.unlink()
    else:
        path.write_bytes(
            dict(truncated=whole[: len(whole) // 2], text=b'not an image', empty=b'')[damage]
        )
    assert dataset[0]['inputs'].shape == (3, 48, 64)
    with pytest.raises(RuntimeError, match=f'cannot prepare {path}: '):
        dataset[1]
