"""Annotation files damaged at random: loaded rightly, or refused by name.

What is loaded is compared with what loops below read out of the same file.
"""

import copy
import csv
import io
import json
import logging
import math
import re
from contextlib import contextmanager
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmdet.utils import register_all_modules
from mmengine.logging import MMLogger

from mmgwap.datasets import CheckedCocoDataset, CheckedXMLDataset, ImageLabelDataset
from mmgwap.datasets.partial_split import read_split, split_from_flag
from mmgwap.datasets.wsol_metadata import read_wsol_metadata
from tests.fuzzing import JUNK, NUMBERS, damaged, fuzz

from .test_annotation_files import XML, coco
from .test_checked import CLASSES, write_images
from .test_wsol_metadata import FILES

register_all_modules()
NAMES = CLASSES['classes']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('fuzz')
    write_images(root / 'JPEGImages', 1)
    (root / 'Annotations').mkdir()
    (root / 'voc.txt').write_text('0\n')
    return root


@contextmanager
def told():
    """Collect warnings."""
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def read(place, function, *args, **options):
    """What a function returns, None if it refuses the file by its name."""
    try:
        return function(*args, **options)
    except (ValueError, FileNotFoundError) as error:
        assert type(error) in (ValueError, FileNotFoundError)
        message = str(error)
        assert str(place) in message and len(message) < 600
        assert '\n' not in message
        return None


def infos(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def number_in(messages, pattern):
    """The sum of numbers that warnings tell."""
    return sum(
        int(found[1]) for found in (re.search(pattern, message) for message in messages) if found
    )


@st.composite
def coco_files(draw):
    content = copy.deepcopy(coco())
    for _ in range(draw(st.integers(0, 3))):
        entries = content.get(
            draw(st.sampled_from(['images', 'annotations', 'annotations', 'categories']))
        )
        kind = draw(st.sampled_from(['value', 'value', 'less', 'box', 'again', 'top']))
        if kind == 'top':
            key = draw(st.sampled_from(list(coco())))
            content[key] = draw(JUNK)
        if not isinstance(entries, list) or not entries:
            continue
        entry = entries[draw(st.integers(0, len(entries) - 1))]
        if not isinstance(entry, dict) or not entry:
            continue
        key = draw(st.sampled_from(sorted(entry)))
        if kind == 'value':
            entry[key] = draw(JUNK)
        elif kind == 'less':
            del entry[key]
        elif kind == 'box' and isinstance(entry.get('bbox'), list):
            entry['bbox'] = [draw(st.one_of(st.just(x), NUMBERS)) for x in entry['bbox']]
        elif kind == 'again':
            name = draw(st.sampled_from([77, entry.get('id')]))
            entries.append(dict(entry, id=name))
    data = json.dumps(content).encode()
    return draw(st.one_of(st.just(data), st.just(data), damaged(data)))


def expected_boxes(content, image):
    """(box, label, crowd) of an image, and how many are dropped."""
    good, dropped = [], 0
    labels = {c['id']: NAMES.index(c['name']) for c in content['categories'] if c['name'] in NAMES}
    for one in content.get('annotations', []):
        if one['image_id'] != image['id'] or one.get('ignore'):
            continue
        x, y, w, h = one['bbox']
        limits = [x, y, x + w, y + h]
        fine = all(math.isfinite(value) and abs(value) < 2**24 for value in limits)
        fine = fine and w >= 1 and h >= 1 and one.get('area', w * h) > 0
        fine = fine and limits[2] > 0 and limits[3] > 0
        fine = fine and x < image['width'] and y < image['height']
        if fine:
            good.append((limits, labels[one['category_id']], int(one.get('iscrowd', 0))))
        dropped += not fine
    return good, dropped


@fuzz
@given(coco_files(), st.booleans())
def test_coco(folder, data, test_mode):
    path = folder / 'coco.json'
    path.write_bytes(data)
    with told() as messages:
        dataset = read(
            path,
            CheckedCocoDataset,
            ann_file=str(path),
            metainfo=CLASSES,
            data_prefix=dict(img='img/'),
            test_mode=test_mode,
            serialize_data=False,
        )
    if dataset is None:
        return
    content = json.loads(data.decode('utf-8-sig'))
    assert [(one['img_id'], one['img_path']) for one in infos(dataset)] == [
        (image['id'], 'img/' + image['file_name']) for image in content['images']
    ]
    total = 0
    for info, image in zip(infos(dataset), content['images']):
        assert info['width'] == image['width'] > 0
        assert info['height'] == image['height'] > 0
        good, dropped = expected_boxes(content, image)
        total += dropped
        assert [
            (one['bbox'], one['bbox_label'], one['ignore_flag']) for one in info['instances']
        ] == good
    assert total == number_in(messages, r'dropped (\d+) boxes')
    known = [image['id'] for image in content['images']]
    lost = [one for one in content.get('annotations', []) if one['image_id'] not in known]
    assert len(lost) == number_in(messages, r'(\d+) of \d+ annotations belong')


TEXTS = st.one_of(
    NUMBERS.map(str),
    st.text(max_size=4),
    st.sampled_from(['', 'cat', 'dog', 'nan', '1e999', ' 7 ', '1', '0', '-1', '٣', '1_0']),
)
TAGS = [
    'size',
    'width',
    'height',
    'object',
    'name',
    'difficult',
    'bndbox',
    'xmin',
    'ymin',
    'xmax',
    'ymax',
]


@st.composite
def xml_files(draw):
    root = ElementTree.fromstring(XML)
    root.append(copy.deepcopy(root.find('object')))
    for _ in range(draw(st.integers(0, 3))):
        tag = draw(st.sampled_from(TAGS))
        parents = [one for one in root.iter() if one.find(tag) is not None]
        if not parents:
            continue
        parent = draw(st.sampled_from(parents))
        child = parent.find(tag)
        kind = draw(st.sampled_from(['text', 'text', 'less', 'again', 'move']))
        if kind == 'text':
            child.text = draw(TEXTS)
        elif kind == 'less':
            parent.remove(child)
        elif kind == 'again':
            parent.append(copy.deepcopy(child))
        else:
            draw(st.sampled_from(list(root.iter()))).append(
                ElementTree.Element(draw(st.sampled_from(TAGS)))
            )
    try:
        data = ElementTree.tostring(root, 'utf-8')
    except UnicodeEncodeError:
        data = XML.encode()
    return draw(st.one_of(st.just(data), st.just(data), damaged(data)))


def expected_objects(root, size):
    """(box, label, difficult), and how many are dropped."""
    good, dropped = [], 0
    for obj in root.findall('object'):
        values = [
            float(obj.find(f'bndbox/{side}').text) for side in ('xmin', 'ymin', 'xmax', 'ymax')
        ]
        fine = all(map(math.isfinite, values))
        fine = fine and all(abs(int(x) - 1) < 2**24 for x in values)
        if fine:
            x1, y1, x2, y2 = box = [int(x) - 1 for x in values]
            fine = x2 > x1 and y2 > y1 and x2 > 0 and y2 > 0
            fine = fine and x1 < size[0] and y1 < size[1]
        if fine:
            difficult = obj.findtext('difficult')
            good.append((box, NAMES.index(obj.findtext('name')), int(difficult or 0)))
        dropped += not fine
    return good, dropped


@fuzz
@given(xml_files())
def test_xml(folder, data):
    path = folder / 'Annotations' / '0.xml'
    path.write_bytes(data)
    with told() as messages:
        dataset = read(
            path,
            CheckedXMLDataset,
            data_root=str(folder),
            ann_file='voc.txt',
            metainfo=CLASSES,
            data_prefix=dict(sub_data_root=''),
            serialize_data=False,
        )
    if dataset is None:
        return
    root = ElementTree.fromstring(data)
    (info,) = infos(dataset)
    size = [float(root.findtext(f'size/{side}') or 0) for side in ('width', 'height')]
    size = [int(side) for side in size] if all(size) else [64, 48]
    assert [info['width'], info['height']] == size
    good, dropped = expected_objects(root, size)
    assert [
        (one['bbox'], one['bbox_label'], one['ignore_flag']) for one in info['instances']
    ] == good
    assert dropped == number_in(messages, r'dropped (\d+) boxes')


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                'a/1.jpg',
                'a/1.jpg,4',
                'b/2.jpg,1,2,3,4',
                '0',
                '',
                'a.jpg,cat',
                '#',
                'x,,',
                '"',
                '\x00',
                'b.jpg,"cat',
            ]
        ),
        st.text(st.characters(exclude_categories=['Cs']), max_size=6),
    ),
    max_size=3,
)


@st.composite
def texts(draw, text):
    """Lines of which some are others, missing or at another place."""
    lines = text.split('\n')
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(lines)))
        lines[place : place + draw(st.integers(0, 2))] = draw(LINES)
    data = '\n'.join(lines).encode()
    return draw(st.one_of(st.just(data), st.just(data), damaged(data)))


@fuzz
@given(texts('0\n'))
def test_image_sets(folder, data):
    (folder / 'Annotations' / '0.xml').write_text(XML)
    (folder / 'set.txt').write_bytes(data)
    dataset = read(
        folder,
        CheckedXMLDataset,
        data_root=str(folder),
        ann_file='set.txt',
        metainfo=CLASSES,
        data_prefix=dict(sub_data_root=''),
        serialize_data=False,
    )
    if dataset is not None:
        assert (
            [info['img_id'] for info in infos(dataset)]
            == [line.strip() for line in data.decode('utf-8-sig').splitlines() if line.strip()]
            == ['0']
        )


@fuzz
@given(texts('# of a seed\n12\n7\nname of one\n'))
def test_splits(folder, data):
    (folder / 'split.txt').write_bytes(data)
    ids = read(folder / 'split.txt', read_split, folder / 'split.txt')
    if ids is not None:
        assert ids == [
            line.strip()
            for line in data.decode('utf-8-sig').splitlines()
            if line.strip() and line.strip()[0] != '#'
        ]
        assert len(set(ids)) == len(ids)


def labels_of(dataset):
    for info in infos(dataset):
        present = set(info['image_labels'])
        assert present <= {0, 1}
        assert not present & set(info['ignored_image_labels'])
    return {info['img_path']: {NAMES[i] for i in info['image_labels']} for info in infos(dataset)}


def load_labels(folder, name, data, **options):
    (folder / name).write_bytes(data)
    return read(
        folder / name,
        ImageLabelDataset,
        ann_file=str(folder / name),
        metainfo=CLASSES,
        data_prefix=dict(img='img'),
        serialize_data=False,
        pipeline=[dict(type='PackDetInputs')],
        **options,
    )


@fuzz
@given(texts('image,label\na.jpg,cat\nb.jpg,dog\na.jpg,dog\nc.jpg,\n'))
def test_csv_labels(folder, data):
    dataset = load_labels(folder, 'labels.csv', data, format='csv')
    if dataset is None:
        return
    first, *rows = csv.reader(io.StringIO(data.decode('utf-8-sig'), newline=''))
    found = {}
    for row in filter(None, rows):
        names = found.setdefault('img/' + row[first.index('image')], set())
        names |= {row[first.index('label')]} - {''}
        assert len(row) == len(first)
    # An absolute path stays one.
    assert {path.split('/')[-1]: names for path, names in labels_of(dataset).items()} == {
        path.split('/')[-1]: names for path, names in found.items()
    }


@fuzz
@given(coco_files())
def test_coco_labels(folder, data):
    dataset = load_labels(folder, 'labels.json', data, format='coco')
    if dataset is None:
        return
    content = json.loads(data.decode('utf-8-sig'))
    names = {one['id']: one['name'] for one in content['categories']}
    labels_of(dataset)
    assert len(infos(dataset)) == len(content['images'])
    for info, image in zip(infos(dataset), content['images']):
        ids = [
            one['category_id']
            for one in content.get('annotations', [])
            if one['image_id'] == image['id']
        ]
        assert info['img_path'].endswith(image['file_name'])
        assert {NAMES[i] for i in info['image_labels']} == {names[i] for i in ids}


@fuzz
@given(texts('a 1\nb -1\nc  0\nname of one -1\n'), texts('a -1\nd 1\n'))
def test_voc_labels(folder, cats, dogs):
    (folder / 'dog.txt').write_bytes(dogs)
    (folder / 'cat.txt').write_bytes(cats)
    dataset = read(
        folder,
        ImageLabelDataset,
        ann_file=str(folder / '{}.txt'),
        metainfo=CLASSES,
        data_prefix=dict(img='img'),
        format='voc',
        serialize_data=False,
        pipeline=[dict(type='PackDetInputs')],
    )
    if dataset is None:
        return
    found = {}
    for name, data in (('cat', cats), ('dog', dogs)):
        for line in data.decode('utf-8-sig').splitlines():
            if line.strip():
                image, flag = line.rsplit(None, 1)
                found.setdefault(f'{image}.jpg', set()).update({name} if flag == '1' else ())
    assert {path.split('img/', 1)[-1]: names for path, names in labels_of(dataset).items()} == {
        image.split('img/', 1)[-1]: names for image, names in found.items()
    }


@fuzz
@given(st.data())
def test_flags(folder, data):
    content = copy.deepcopy(coco())
    values = [
        data.draw(st.one_of(st.sampled_from([1, 0, True, 'no', 'Yes', ' 1 ']), JUNK))
        for _ in content['images']
    ]
    for image, value in zip(content['images'], values):
        image['has_boxes'] = value
    path = folder / 'coco.json'
    path.write_text(json.dumps(content))
    dataset = CheckedCocoDataset(
        ann_file=str(path), metainfo=CLASSES, data_prefix=dict(img='img/'), serialize_data=False
    )
    flags = read(path, split_from_flag, dataset, 'has_boxes')
    words = [str(value).strip().lower() for value in values]
    if flags is None:
        assert set(words) - {'1', 'true', 'yes', '0', 'false', 'no'}
    else:
        assert flags.tolist() == [word in ('1', 'true', 'yes') for word in words]


@fuzz
@given(
    st.sampled_from(sorted(FILES)).flatmap(
        lambda name: st.tuples(st.just(name), texts(FILES[name]))
    )
)
def test_wsol_metadata(tmp_path_factory, changed):
    root = tmp_path_factory.mktemp('wsol')
    for name, text in FILES.items():
        (root / name).write_text(text)
    (root / changed[0]).write_bytes(changed[1])
    found = read(root, read_wsol_metadata, str(root))
    if found is None:
        return
    lines = [
        line.strip()
        for line in (root / 'image_ids.txt').read_text(encoding='utf-8-sig').splitlines()
        if line.strip()
    ]
    assert list(found.labels) == lines
    assert all(type(label) is int and 0 <= label < 10**6 for label in found.labels.values())
    assert all(1 <= side < 2**24 for size in found.sizes.values() for side in size)
    for name, each in (('sizes', found.sizes), ('boxes', found.boxes), ('masks', found.masks)):
        assert set(each) <= set(lines), name
    count = sum(map(len, found.boxes.values()))
    count += sum(len(masks.instances) for masks in found.masks.values())
    assert count == sum(
        bool(line.strip())
        for name in ('localization.txt', 'masks.txt')
        for line in (root / name).read_text(encoding='utf-8-sig').splitlines()
    )
    for boxes in found.boxes.values():
        for x0, y0, x1, y1 in boxes:
            assert -(2**24) < x0 <= x1 < 2**24 and -(2**24) < y0 <= y1 < 2**24
