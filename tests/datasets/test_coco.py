"""Faulty COCO files: each fault is named, or corrected with a warning."""

import json
import math
import re

import pytest

from mmgwap.datasets import CheckedCocoDataset
from mmgwap.datasets.coco import check_coco

from .helpers import CLASSES, infos


def content(**changes):
    """Two images of 64 x 48, a cat and two dogs."""
    boxes = [[10, 10, 30, 20], [0.5, 1, 5, 6], [1, 2, 3, 4]]
    whole = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=64, height=48) for i in (7, 8)],
        annotations=[
            dict(id=i, image_id=image, category_id=category, bbox=box, area=20.0, iscrowd=0)
            for i, (image, category, box) in enumerate(zip((7, 7, 8), (5, 6, 6), boxes))
        ],
        categories=[dict(id=5, name='cat'), dict(id=6, name='dog')],
    )
    return dict(whole, **changes)


def changed(place, number, **changes):
    """Change values of an entry; None removes the key."""
    whole = content()
    entry = whole[place][number]
    entry.update(changes)
    for key in [key for key, value in changes.items() if value is None]:
        del entry[key]
    return whole


def load(root, data, **options):
    path = root / 'coco.json'
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    options = dict(dict(ann_file=str(path), metainfo=CLASSES), **options)
    return CheckedCocoDataset(data_prefix=dict(img='img/'), serialize_data=False, **options)


IMAGES = [
    (dict(id=None), 'number 1: id .* missing'),
    (dict(id=2.0), 'number 1: id .* 2.0'),
    (dict(id=True), 'number 1: id .* True'),
    (dict(id=7), '7: 2 entries have this id'),
    (dict(id='8'), ': the ids .* int and str'),
    (dict(file_name=''), "8: file_name .* ''"),
    (dict(file_name=3), '8: file_name .* 3'),
    (dict(width=None), '8: width .* missing'),
    (dict(height=0), '8: height .* 0'),
    (dict(height='48'), "8: height .* '48'"),
    (dict(height=math.nan), '8: height .* nan'),
    (dict(height=1e308), '8: height .* 1e.308'),
    (dict(height=True), '8: height .* True'),
]
CATEGORIES = [
    (dict(id=6), '6: 2 entries have this id'),
    (dict(name='dog'), "'dog': 2 entries have this name"),
    (dict(name=None), '5: name .* missing'),
]
ANNOTATIONS = [
    (dict(id=None), 'number 2: id .* missing'),
    (dict(id=1), '1: 2 entries have this id'),
    (dict(image_id=7.0), '2: image_id .* 7.0'),
    (dict(category_id={}), '2: category_id .* {}'),
    (dict(category_id=9), "2: category 'id 9'"),
    (dict(bbox=None), '2: bbox .* missing'),
    *((dict(bbox=bad), '2: bbox') for bad in ([1, 2, 3], [1, 2, 3, '4'], [1, 2, 3, True], '1234')),
    (dict(bbox=[1, 2, 3, 10**400]), '2: bbox'),
    (dict(area='9'), "2: area .* '9'"),
    (dict(iscrowd='0'), "2: iscrowd .* '0'"),
    (dict(iscrowd=2), '2: iscrowd .* 2'),
    (dict(ignore='no'), "2: ignore .* 'no'"),
    (dict(segmentation=5), '2: segmentation .* 5'),
]
FAULTY_ENTRIES = [
    (changed(*entry, **changes), f', {name} ?{message}')
    for entry, name, faults in (
        (('images', 1), 'image', IMAGES),
        (('categories', 0), 'category', CATEGORIES),
        (('annotations', 2), 'annotation', ANNOTATIONS),
    )
    for changes, message in faults
]


@pytest.mark.parametrize(
    'data, message',
    [
        (b'', ': invalid JSON: .*line 1 column 1'),
        (json.dumps(content()).encode()[:-50], ': invalid JSON'),
        (json.dumps(content()).replace('cat', 'chät').encode('latin-1'), ': not UTF-8 text'),
        (b'[' * 10**6, ': invalid JSON: maximum recursion depth'),
        (b'{"images": ' + b'9' * 5000 + b'}', ': invalid JSON: Exceeds the limit'),
        (b'{"images": [], "images": []}', ": .* the key 'images' twice"),
        ([], ': must be a JSON object .* got list'),
        ({}, ': images must be a list, .* missing'),
        (content(images={}), ': images must be a list, got {}'),
        (content(images=[5]), ', image number 0: must be an object, got 5'),
        *FAULTY_ENTRIES,
        (
            content(images=[dict(id='7', file_name='7.jpg', width=64, height=48)]),
            ": 3 of 3 annotations .* annotation 0 of image 7; .* '7'",
        ),
    ],
)
def test_name_the_fault(data, message, tmp_path):
    with pytest.raises(ValueError, match=f'^{tmp_path}/coco.json{message}') as caught:
        load(tmp_path, data)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 600


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=f'{tmp_path}/no.json'):
        CheckedCocoDataset(ann_file=str(tmp_path / 'no.json'), metainfo=CLASSES)


@pytest.mark.parametrize('classes', [('cat', 'horse', 'dog'), ('dog', 'cat')])
def test_refuse_classes_in_another_order_than_the_file(tmp_path, classes):
    """mmdet would call a dog a horse, and a cat a dog."""
    with pytest.raises(ValueError, match=r"coco.json: .* \('cat', 'dog'\)"):
        load(tmp_path, content(), metainfo=dict(classes=classes))


def boxes_of(dataset):
    return [[obj['bbox'] for obj in info['instances']] for info in infos(dataset)]


BOXES = [[[10, 10, 40, 30], [0.5, 1, 5.5, 7]], [[1, 2, 4, 6]]]
TEXT_IDS = json.dumps(content())
for key in ('id', 'image_id', 'category_id'):
    for number in range(9):
        TEXT_IDS = TEXT_IDS.replace(f'"{key}": {number}', f'"{key}": "x{number}"')


@pytest.mark.parametrize(
    'data',
    [
        content(),
        changed('annotations', 0, iscrowd=False, ignore=0),
        changed('annotations', 0, segmentation=[[1, 2, 3, 4, 5, 6]]),
        b'\xef\xbb\xbf' + json.dumps(content()).encode(),
        content(info='anything', licenses=5),
        TEXT_IDS.encode(),
    ],
)
def test_read_variants_without_a_warning(data, tmp_path, warnings):
    dataset = load(tmp_path, data)
    assert boxes_of(dataset) == BOXES
    assert dataset.get_data_info(1)['img_id'] in (8, 'x8')
    assert warnings == []


def test_missing_areas_are_those_of_the_boxes(tmp_path, warnings):
    data = content()
    for ann in data['annotations'][1:]:
        del ann['area']
    data['annotations'][2]['bbox'] = [1, 2, 3, 0]  # no area
    assert boxes_of(load(tmp_path, data)) == [BOXES[0], []]
    no_area, dropped = warnings
    assert 'coco.json: 2 annotations have no area, such as 1;' in no_area
    assert 'dropped 1 boxes' in dropped
    check_coco(data, 'coco.json')
    assert [ann['area'] for ann in data['annotations']] == [20, 30, 0]


def test_missing_iscrowd_is_0(tmp_path, warnings):
    data = changed('annotations', 0, iscrowd=None)
    assert boxes_of(load(tmp_path, data)) == BOXES
    (message,) = warnings
    assert 'coco.json: 1 annotations have no iscrowd, such as 0;' in message
    check_coco(data, 'coco.json')
    assert data['annotations'][0]['iscrowd'] == 0


@pytest.mark.parametrize(
    'data, boxes, message',
    [
        (
            changed('annotations', 1, image_id=9),
            [BOXES[0][:1], BOXES[1]],
            'coco.json: 1 of 3 annotations .* annotation 1 of image 9',
        ),
        (changed('images', 1, file_name='7.jpg'), BOXES, "1 images .* '7.jpg'"),
        (changed('annotations', 2, bbox=[1e308, 1, 1e308, 5]), [BOXES[0], []], 'dropped 1 boxes'),
        (changed('annotations', 2, bbox=[0, 0, 2**25, 9]), [BOXES[0], []], 'dropped 1 boxes'),
        # mmdet drops a side below a pixel, although x + w - x may round to a pixel.
        (
            changed('annotations', 2, bbox=[3, 3, math.nextafter(1, 0), 5]),
            [BOXES[0], []],
            'dropped 1 boxes',
        ),
    ],
)
def test_correct_with_a_warning(data, boxes, message, tmp_path, warnings):
    assert boxes_of(load(tmp_path, data)) == boxes
    (warning,) = warnings
    assert re.search(message, warning)


def test_read_files_without_annotations_in_test_mode_only(tmp_path):
    data = content()
    del data['annotations']
    assert boxes_of(load(tmp_path, data, test_mode=True)) == [[], []]
    with pytest.raises(ValueError, match='annotations must be a list, .* missing'):
        load(tmp_path, data)


def test_ignore_unlisted_category_ids(tmp_path):
    data = changed('annotations', 2, category_id=9)
    assert boxes_of(load(tmp_path, data, unlisted_categories='ignore')) == [BOXES[0], []]
