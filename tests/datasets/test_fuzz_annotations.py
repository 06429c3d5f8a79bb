"""Randomly damaged annotation files: loaded correctly, or refused with the file's name.

Loaded content is compared with a second, simple reader in each check below.
"""

import copy
import csv
import io
import json
import math
import re
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmgwap.datasets import CheckedCocoDataset, CheckedXMLDataset, ImageLabelDataset, YOLODataset
from mmgwap.datasets.partial_split import read_split, split_from_flag
from mmgwap.datasets.wsol_metadata import read_wsol_metadata

from .helpers import CLASSES, captured_log, infos, write_images
from .test_coco import content as coco_content
from .test_voc import XML
from .test_wsol import FILES, write_files
from .test_yolo import YAML
from .test_yolo import write as write_yolo

NAMES = CLASSES['classes']
OPTIONS = dict(metainfo=CLASSES, data_prefix=dict(img='img/'), serialize_data=False)
NUMBERS = st.one_of(
    st.integers(-3, 70),
    st.floats(-3, 70),
    st.sampled_from([10**9, -(10**9), 2**24, 10**30, 10**400, 1e30, 1e308, -1e308, 0.5, -0.0]),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e-308]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.text(max_size=4),
    st.sampled_from(['1', 'nan', '5', 'cat', '\n', '\x00', '\ud800', '../..']),
)
JUNK = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=5),
    st.lists(NUMBERS, min_size=4, max_size=4),
    st.dictionaries(st.sampled_from(['id', 'bbox', 'x']), SCALARS, max_size=2),
)


@st.composite
def damaged(draw, data):
    """Keep the bytes, or cut, change, remove or repeat some of them."""
    kind = draw(st.sampled_from(['same', 'same', 'cut', 'change', 'remove', 'repeat']))
    if kind == 'same':
        return data
    position = draw(st.integers(0, 10**6)) % max(len(data), 1)
    byte = draw(st.integers(0, 255))
    tail = dict(
        cut=b'',
        change=bytes([byte]) + data[position + 1 :],
        remove=data[position + 1 + byte % 8 :],
        repeat=data[max(position - byte, 0) :],
    )
    return data[:position] + tail[kind]


@st.composite
def coco_files(draw):
    content = copy.deepcopy(coco_content())
    for _ in range(draw(st.integers(0, 3))):
        key = draw(st.sampled_from(['images', 'annotations', 'annotations', 'categories']))
        entries = content.get(key)
        kind = draw(st.sampled_from(['value', 'value', 'remove', 'box', 'repeat', 'top']))
        if kind == 'top':
            content[draw(st.sampled_from(list(coco_content())))] = draw(JUNK)
        if not isinstance(entries, list) or not entries:
            continue
        entry = entries[draw(st.integers(0, len(entries) - 1))]
        if not isinstance(entry, dict) or not entry:
            continue
        key = draw(st.sampled_from(sorted(entry)))
        if kind == 'value':
            entry[key] = draw(JUNK)
        elif kind == 'remove':
            del entry[key]
        elif kind == 'box' and isinstance(entry.get('bbox'), list):
            entry['bbox'] = [draw(st.one_of(st.just(x), NUMBERS)) for x in entry['bbox']]
        elif kind == 'repeat':
            entries.append(dict(entry, id=draw(st.sampled_from([77, entry.get('id')]))))
    return draw(damaged(json.dumps(content).encode()))


TEXTS = st.one_of(
    NUMBERS.map(str),
    st.text(max_size=4),
    st.sampled_from(['', 'cat', 'dog', 'nan', '1e999', ' 7 ', '1', '0', '-1', '٣', '1_0']),
)
TAGS = ['size', 'width', 'height', 'object', 'name', 'difficult', 'bndbox']
TAGS += ['xmin', 'ymin', 'xmax', 'ymax']


@st.composite
def xml_files(draw):
    root = ElementTree.fromstring(XML)
    root.append(copy.deepcopy(root.find('object')))
    for _ in range(draw(st.integers(0, 3))):
        tag = draw(st.sampled_from(TAGS))
        parents = [element for element in root.iter() if element.find(tag) is not None]
        if not parents:
            continue
        parent = draw(st.sampled_from(parents))
        child = parent.find(tag)
        kind = draw(st.sampled_from(['text', 'text', 'remove', 'repeat', 'add']))
        if kind == 'text':
            child.text = draw(TEXTS)
        elif kind == 'remove':
            parent.remove(child)
        elif kind == 'repeat':
            parent.append(copy.deepcopy(child))
        else:
            element = ElementTree.Element(draw(st.sampled_from(TAGS)))
            draw(st.sampled_from(list(root.iter()))).append(element)
    try:
        data = ElementTree.tostring(root, 'utf-8')
    except UnicodeEncodeError:
        data = XML.encode()
    return draw(damaged(data))


LABELS = '0 0.5 0.25 0.25 0.5\n1 0.1 0.2 0.3 0.2 0.3 0.4\n1 0.99 0.98 0.97 0.96\n'
LINES = st.lists(
    st.one_of(
        st.sampled_from(['0 0.5 0.25 0.25 0.50', '1 0.5 0.5 0 0.5', '0 0 0 1 1', 'a: [b']),
        st.sampled_from(['a/1.jpg', 'a/1.jpg,4', 'b/2.jpg,1,2,3,4', '0', '', 'a.jpg,cat']),
        st.sampled_from(['#', 'x,,', '"', '\x00', 'b.jpg,"cat']),
        st.text(st.characters(exclude_categories=['Cs']), max_size=6),
    ),
    max_size=3,
)


@st.composite
def text_files(draw, text):
    """Change, remove or add lines of a text."""
    lines = text.split('\n')
    for _ in range(draw(st.integers(0, 2))):
        position = draw(st.integers(0, len(lines)))
        lines[position : position + draw(st.integers(0, 2))] = draw(LINES)
    return draw(damaged('\n'.join(lines).encode()))


def lines_of(data):
    """Lines of a file without blanks around them, without blank lines."""
    return [line.strip() for line in data.decode('utf-8-sig').splitlines() if line.strip()]


def read(path, function, *args, **options):
    """Call a function; return None if it refuses the file by its name."""
    try:
        return function(*args, **options)
    except (ValueError, FileNotFoundError) as error:
        assert type(error) in (ValueError, FileNotFoundError)
        message = str(error)
        assert str(path) in message and len(message) < 600 and '\n' not in message
        return None


def objects_of(info):
    """Return (box, label, crowd or difficult) of the loaded objects of an image."""
    return [(obj['bbox'], obj['bbox_label'], obj['ignore_flag']) for obj in info['instances']]


def sum_of_numbers(messages, pattern):
    found = (re.search(pattern, message) for message in messages)
    return sum(int(match[1]) for match in found if match)


def check_coco(folder, data, test_mode):
    path = folder / 'coco.json'
    path.write_bytes(data)
    with captured_log() as messages:
        dataset = read(path, CheckedCocoDataset, ann_file=str(path), test_mode=test_mode, **OPTIONS)
    if dataset is None:
        return
    content = json.loads(data.decode('utf-8-sig'))
    assert [(info['img_id'], info['img_path']) for info in infos(dataset)] == [
        (image['id'], 'img/' + image['file_name']) for image in content['images']
    ]
    num_dropped = 0
    for info, image in zip(infos(dataset), content['images']):
        assert info['width'] == image['width'] > 0
        assert info['height'] == image['height'] > 0
        good, dropped = expected_boxes(content, image)
        num_dropped += dropped
        assert objects_of(info) == good
    assert num_dropped == sum_of_numbers(messages, r'dropped (\d+) boxes')
    known = [image['id'] for image in content['images']]
    orphans = [ann for ann in content.get('annotations', []) if ann['image_id'] not in known]
    assert len(orphans) == sum_of_numbers(messages, r'(\d+) of \d+ annotations belong')


def expected_boxes(content, image):
    """Return (box, label, crowd) of an image, and the number of dropped boxes."""
    good, dropped = [], 0
    labels = {c['id']: NAMES.index(c['name']) for c in content['categories'] if c['name'] in NAMES}
    for ann in content.get('annotations', []):
        if ann['image_id'] != image['id'] or ann.get('ignore'):
            continue
        x, y, w, h = ann['bbox']
        corners = [x, y, x + w, y + h]
        keep = all(math.isfinite(value) and abs(value) < 2**24 for value in corners)
        keep = keep and w >= 1 and h >= 1 and ann.get('area', w * h) > 0
        keep = keep and corners[2] > 0 and corners[3] > 0
        keep = keep and x < image['width'] and y < image['height']
        if keep:
            good.append((corners, labels[ann['category_id']], int(ann.get('iscrowd', 0))))
        dropped += not keep
    return good, dropped


def read_voc(folder, path, ann_file):
    options = dict(OPTIONS, data_prefix=dict(sub_data_root=''))
    return read(path, CheckedXMLDataset, data_root=str(folder), ann_file=ann_file, **options)


def check_xml(folder, data):
    path = folder / 'Annotations' / '0.xml'
    path.write_bytes(data)
    with captured_log() as messages:
        dataset = read_voc(folder, path, 'voc.txt')
    if dataset is None:
        return
    root = ElementTree.fromstring(data)
    (info,) = infos(dataset)
    size = [float(root.findtext(f'size/{side}') or 0) for side in ('width', 'height')]
    size = [int(side) for side in size] if all(size) else [64, 48]
    assert [info['width'], info['height']] == size
    good, dropped = expected_objects(root, size)
    assert objects_of(info) == good
    assert dropped == sum_of_numbers(messages, r'dropped (\d+) boxes')


def expected_objects(root, size):
    """Return (box, label, difficult), and the number of dropped boxes."""
    good, dropped = [], 0
    sides = [f'bndbox/{side}' for side in ('xmin', 'ymin', 'xmax', 'ymax')]
    for obj in root.findall('object'):
        values = [float(obj.find(side).text) for side in sides]
        keep = all(map(math.isfinite, values))
        keep = keep and all(abs(int(x) - 1) < 2**24 for x in values)
        if keep:
            x1, y1, x2, y2 = box = [int(x) - 1 for x in values]
            keep = x2 > x1 and y2 > y1 and x2 > 0 and y2 > 0 and x1 < size[0] and y1 < size[1]
        if keep:
            label = NAMES.index(obj.findtext('name'))
            good.append((box, label, int(obj.findtext('difficult') or 0)))
        dropped += not keep
    return good, dropped


def read_yolo(folder, path, **options):
    # A single image may lack a label file in test mode only.
    options = dict(serialize_data=False, test_mode=True, **options)
    return read(path, YOLODataset, data_root=str(folder / 'yolo'), **options)


def check_label_file(folder, data):
    write_yolo(folder / 'yolo', [data])
    with captured_log() as messages:
        dataset = read_yolo(folder, folder / 'yolo/labels/train/0.txt', metainfo=CLASSES)
    if dataset is None:
        return
    rows = {tuple(map(float, line.split())): line for line in lines_of(data)}
    good = []
    for label, *values in rows:
        assert label in (0, 1) and all(-0.01 <= value <= 1.01 for value in values)
        xs, ys = values[0::2], values[1::2]
        if len(values) == 4:
            xs, ys = ([c - s / 2, c + s / 2] for c, s in (xs, ys))
        else:
            assert len(xs) == len(ys) > 2
            xs, ys = sorted(xs), sorted(ys)
        if xs[0] < xs[-1] and ys[0] < ys[-1] and xs[-1] > 0 < ys[-1] and xs[0] < 1 > ys[0]:
            box = [xs[0] * 64, ys[0] * 48, xs[-1] * 64, ys[-1] * 48]
            good.append((pytest.approx(box), label, 0))
    (info,) = infos(dataset)
    assert objects_of(info) == good
    assert len(rows) - len(good) == sum_of_numbers(messages, r'dropped (\d+) boxes')
    repeated = sum_of_numbers(messages, r'dropped (\d+) repeated lines')
    assert len(lines_of(data)) - len(rows) == repeated


def check_data_yaml(folder, data):
    write_yolo(folder / 'yolo', [''], data)
    dataset = read_yolo(folder, folder / 'yolo/data.yaml')
    if dataset is None:
        return
    assert [info['img_id'] for info in infos(dataset)] == ['images/train/0.jpg']
    names = yaml.safe_load(data.decode('utf-8-sig'))['names']
    names = [names[i] for i in range(len(names))]
    if all(isinstance(name, str) for name in names):
        assert dataset.metainfo['classes'] == tuple(names)


def check_image_set(folder, data):
    (folder / 'Annotations' / '0.xml').write_text(XML)
    (folder / 'set.txt').write_bytes(data)
    dataset = read_voc(folder, folder, 'set.txt')
    if dataset is not None:
        assert [info['img_id'] for info in infos(dataset)] == lines_of(data) == ['0']


def check_split(folder, data):
    (folder / 'split.txt').write_bytes(data)
    ids = read(folder / 'split.txt', read_split, folder / 'split.txt')
    if ids is not None:
        assert ids == [line for line in lines_of(data) if line[0] != '#']
        assert len(set(ids)) == len(ids)


def read_labels(folder, path, format, ann_file):
    options = dict(OPTIONS, data_prefix=dict(img='img'), pipeline=[dict(type='PackDetInputs')])
    ann_file = str(folder / ann_file)
    return read(path, ImageLabelDataset, ann_file=ann_file, format=format, **options)


def labels_of(dataset):
    for info in infos(dataset):
        present = set(info['image_labels'])
        assert present <= {0, 1} and not present & set(info['ignored_image_labels'])
    return {info['img_path']: {NAMES[i] for i in info['image_labels']} for info in infos(dataset)}


def check_csv_labels(folder, data):
    path = folder / 'labels.csv'
    path.write_bytes(data)
    dataset = read_labels(folder, path, 'csv', path.name)
    if dataset is None:
        return
    first, *rows = csv.reader(io.StringIO(data.decode('utf-8-sig'), newline=''))
    expected = {}
    for row in filter(None, rows):
        # An absolute path is not joined to the folder.
        name = ('img/' + row[first.index('image')]).split('/')[-1]
        expected.setdefault(name, set()).update({row[first.index('label')]} - {''})
        assert len(row) == len(first)
    assert {path.split('/')[-1]: names for path, names in labels_of(dataset).items()} == expected


def check_coco_labels(folder, data):
    path = folder / 'labels.json'
    path.write_bytes(data)
    dataset = read_labels(folder, path, 'coco', path.name)
    if dataset is None:
        return
    content = json.loads(data.decode('utf-8-sig'))
    names = {category['id']: category['name'] for category in content['categories']}
    labels_of(dataset)
    assert len(dataset) == len(content['images'])
    for info, image in zip(infos(dataset), content['images']):
        anns = [a for a in content.get('annotations', []) if a['image_id'] == image['id']]
        assert info['img_path'].endswith(image['file_name'])
        expected = {names[ann['category_id']] for ann in anns}
        assert {NAMES[i] for i in info['image_labels']} == expected


def check_voc_labels(folder, cats, dogs):
    (folder / 'dog.txt').write_bytes(dogs)
    (folder / 'cat.txt').write_bytes(cats)
    dataset = read_labels(folder, folder, 'voc', '{}.txt')
    if dataset is None:
        return
    expected = {}
    for name, data in (('cat', cats), ('dog', dogs)):
        for line in data.decode('utf-8-sig').splitlines():
            if line.strip():
                image, flag = line.rsplit(None, 1)
                names = expected.setdefault(f'{image}.jpg'.split('img/', 1)[-1], set())
                names.update({name} if flag == '1' else ())
    assert {
        path.split('img/', 1)[-1]: names for path, names in labels_of(dataset).items()
    } == expected


def check_flags(folder, *values):
    content = copy.deepcopy(coco_content())
    for image, value in zip(content['images'], values):
        image['has_boxes'] = value
    path = folder / 'coco.json'
    path.write_text(json.dumps(content))
    dataset = CheckedCocoDataset(ann_file=str(path), **OPTIONS)
    flags = read(path, split_from_flag, dataset, 'has_boxes')
    words = [str(value).strip().lower() for value in values]
    if flags is None:
        assert set(words) - {'1', 'true', 'yes', '0', 'false', 'no'}
    else:
        assert flags.tolist() == [word in ('1', 'true', 'yes') for word in words]


def check_wsol_metadata(folder, change):
    root, (changed_name, data) = folder / 'wsol', change
    write_files(root, FILES)
    (root / f'{changed_name}.txt').write_bytes(data)
    found = read(root, read_wsol_metadata, str(root))
    if found is None:
        return
    lines = {name: lines_of((root / f'{name}.txt').read_bytes()) for name in FILES}
    assert list(found.labels) == lines['image_ids']
    assert all(type(label) is int and 0 <= label < 10**6 for label in found.labels.values())
    assert all(1 <= side < 2**24 for size in found.sizes.values() for side in size)
    for by_image in (found.sizes, found.boxes, found.masks):
        assert set(by_image) <= set(found.labels)
    count = sum(map(len, found.boxes.values()))
    count += sum(len(masks.instances) for masks in found.masks.values())
    assert count == len(lines['localization']) + len(lines['masks'])
    for boxes in found.boxes.values():
        for x0, y0, x1, y1 in boxes:
            assert -(2**24) < x0 <= x1 < 2**24 and -(2**24) < y0 <= y1 < 2**24


FLAGS = st.one_of(st.sampled_from([1, 0, True, 'no', 'Yes', ' 1 ']), JUNK)
CHANGED_FILES = st.sampled_from(sorted(FILES)).flatmap(
    lambda name: st.tuples(st.just(name), text_files(FILES[name]))
)
IMAGE_SET = 'a 1\nb -1\nc  0\nname of one -1\n'
CSV = 'image,label\na.jpg,cat\nb.jpg,dog\na.jpg,dog\nc.jpg,\n'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('fuzz')
    write_images(root / 'JPEGImages', 1)
    (root / 'Annotations').mkdir()
    (root / 'voc.txt').write_text('0\n')
    return root


@pytest.mark.parametrize('examples', [25, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    'check, files',
    [
        (check_coco, (coco_files(), st.booleans())),
        (check_xml, (xml_files(),)),
        (check_label_file, (text_files(LABELS),)),
        (check_data_yaml, (text_files(YAML + 'nc: 2\npath: .\n'),)),
        (check_image_set, (text_files('0\n'),)),
        (check_split, (text_files('# seed\n12\n7\nname of image\n'),)),
        (check_csv_labels, (text_files(CSV),)),
        (check_coco_labels, (coco_files(),)),
        (check_voc_labels, (text_files(IMAGE_SET), text_files('a -1\nd 1\n'))),
        (check_flags, (FLAGS, FLAGS)),
        (check_wsol_metadata, (CHANGED_FILES,)),
    ],
)
def test_load_or_refuse_damaged_files(check, files, examples, folder):
    """Check the same examples in each run."""

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(*files))
    def run(contents):
        check(folder, *contents)

    run()
