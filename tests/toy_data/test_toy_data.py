"""Toy data sets: real layouts, and annotations that agree with the images."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from PIL import Image
from pycocotools.coco import COCO
from wsol_sources import read_cub, read_ilsvrc

from mmgwap.datasets.partial_split import stratified_split
from mmgwap.datasets.wsol_metadata import read_wsol_metadata
from tests.toy_data import (
    write_cards,
    write_coco,
    write_cub,
    write_ilsvrc,
    write_openimages,
    write_voc,
)
from tests.toy_data.drawing import color, draw

register_all_modules()


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('data'), train=25, val=12)


@pytest.fixture(scope='module')
def voc(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp('data'), 40, 12, 60, 5)


def test_last_object_is_visible():
    for seed in range(20):
        scene = draw([8 + seed, 7], np.random.RandomState(seed), (48, 64))
        x, y, w, h = scene.boxes[-1]
        inside = np.zeros((48, 64), bool)
        inside[y : y + h, x : x + w] = True
        drawn = (scene.image == color(7)).all(-1)
        assert inside.sum() == w * h and (drawn == inside).all()


def test_colors_are_bright_and_differ():
    colors = {tuple(color(label)) for label in range(80)}
    assert len(colors) == 80
    assert min(map(max, colors)) > 128  # the noise is below 64


def test_pycocotools_reads_coco(coco):
    for split, images in (('train', 25), ('val', 12)):
        truth = COCO(coco / f'annotations/instances_{split}2017.json')
        assert len(truth.imgs) == images
        crowds = 0
        for image in truth.loadImgs(truth.getImgIds()):
            name = f'{image["id"]:012d}.jpg'
            assert image['file_name'] == name
            with Image.open(coco / f'{split}2017' / name) as opened:
                assert opened.format == 'JPEG'
                assert opened.size == (image['width'], image['height'])
                gray = opened.mode == 'L'
            assert gray == (image is truth.dataset['images'][1])
            found = truth.loadAnns(truth.getAnnIds(image['id']))
            assert (not found) == (image is truth.dataset['images'][8])
            for annotation in found:
                check_annotation(truth, annotation)
                crowds += annotation['iscrowd']
        assert crowds == 1


def check_annotation(truth, annotation):
    """Check that the mask, a polygon or an RLE, has the area and the box."""
    mask = truth.annToMask(annotation)
    lines, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y, w, h = annotation['bbox']
    assert mask.sum() == annotation['area'] > 0
    assert (columns[0], lines[0]) == (x, y)
    assert (columns[-1] + 1, lines[-1] + 1) == (x + w, y + h)


def test_coco_has_the_real_categories(coco):
    content = json.loads((coco / 'annotations/instances_val2017.json').read_text())
    found = {category['id']: category for category in content['categories']}
    assert len(found) == 80 and list(found) == sorted(found)
    for number, name, family in (
        (1, 'person', 'person'),
        (13, 'stop sign', 'outdoor'),
        (25, 'giraffe', 'animal'),
        (27, 'backpack', 'accessory'),
        (44, 'bottle', 'kitchen'),
        (61, 'cake', 'food'),
        (67, 'dining table', 'furniture'),
        (70, 'toilet', 'furniture'),
        (82, 'refrigerator', 'appliance'),
        (84, 'book', 'indoor'),
        (90, 'toothbrush', 'indoor'),
    ):
        assert found[number] == dict(id=number, name=name, supercategory=family)
    licenses = {entry['id'] for entry in content['licenses']}
    assert {image['license'] for image in content['images']} <= licenses


def test_coco_ids_are_unique(coco):
    files = [json.loads(path.read_text()) for path in (coco / 'annotations').glob('*.json')]
    images = [image['id'] for content in files for image in content['images']]
    annotations = [item['id'] for content in files for item in content.get('annotations', ())]
    assert len(files) == 3
    assert len(set(images)) == len(images) == 25 + 12 + 4
    assert len(set(annotations)) == len(annotations)


def test_coco_test_split_has_no_annotations(coco):
    path = coco / 'annotations/image_info_test-dev2017.json'
    content = json.loads(path.read_text())
    assert set(content) == {'info', 'licenses', 'images', 'categories'}
    for image in content['images']:
        assert (coco / 'test2017' / image['file_name']).is_file()


@pytest.mark.parametrize('year', [2007, 2012])
def test_voc_sets_agree_with_the_annotations(voc, year):
    home = voc / f'VOC{year}'
    trainval, train, val, test = (
        read_set(home, name) for name in ('trainval', 'train', 'val', 'test')
    )
    assert len(trainval) == dict({2007: 40, 2012: 60})[year]
    assert sorted(train + val) == trainval and not set(trainval) & set(test)
    difficult = 0
    for name in trainval + test:
        path = home / 'Annotations' / f'{name}.xml'
        assert path.is_file() == (year == 2007 or name in trainval)
        assert (home / 'JPEGImages' / f'{name}.jpg').is_file()
    for label in DATASETS.get('VOCDataset').METAINFO['classes']:
        for line in read_set(home, f'{label}_trainval'):
            name, flag = line.split()
            flags = [
                int(item.findtext('difficult'))
                for item in objects(home, name)
                if item.findtext('name') == label
            ]
            assert int(flag) == (-1 if not flags else 0 if all(flags) else 1)
            difficult += sum(flags)
    assert difficult


def read_set(home, name):
    return (home / f'ImageSets/Main/{name}.txt').read_text().splitlines()


def objects(home, name):
    root = ElementTree.parse(home / 'Annotations' / f'{name}.xml').getroot()
    return root.findall('object')


def test_voc_boxes_are_inside_and_counted_from_one(voc):
    edges, parts, fractions = set(), 0, 0
    for path in voc.glob('VOC20*/Annotations/*.xml'):
        root = ElementTree.parse(path).getroot()
        image = path.parents[1] / 'JPEGImages' / root.findtext('filename')
        with Image.open(image) as opened:
            assert opened.size == tuple(
                int(root.findtext(f'size/{side}')) for side in ('width', 'height')
            )
            width, height = opened.size
        for item in root.findall('object'):
            x1, y1, x2, y2 = (
                float(item.findtext(f'bndbox/{side}')) for side in ('xmin', 'ymin', 'xmax', 'ymax')
            )
            assert 1 <= x1 < x2 <= width and 1 <= y1 < y2 <= height
            edges |= {x1 == 1, -(x2 == width)}
            parts += item.find('part') is not None
            fractions += x1 != int(x1)
    assert edges == {True, False, -1} and parts and fractions


def test_voc_2012_test_split_has_no_annotations(voc):
    home = voc / 'VOC2012'
    assert len(read_set(home, 'test')) == 5
    assert not list((home / 'ImageSets/Main').glob('*_test.txt'))
    assert len(list((voc / 'VOC2007/ImageSets/Main').glob('*_test.txt'))) == 20


def test_voc_class_lists_agree_with_the_boxes(voc):
    labels = DATASETS.build(
        dict(
            type='mmgwap.ImageLabelDataset',
            format='voc',
            data_root=str(voc),
            ann_file='VOC2007/ImageSets/Main/{}_trainval.txt',
            data_prefix=dict(img='VOC2007/JPEGImages'),
            pipeline=[dict(type='PackDetInputs')],
            unlabelled='negative',
            metainfo=DATASETS.get('VOCDataset').METAINFO,
        )
    )
    names = labels.metainfo['classes']
    for i in range(len(labels)):
        info = labels.get_data_info(i)
        sure = {
            item.findtext('name')
            for item in objects(voc / 'VOC2007', info['img_id'])
            if item.findtext('difficult') == '0'
        }
        assert {names[k] for k in info['image_labels']} == sure


def test_one_percent_can_have_all_classes(tmp_path):
    path = write_coco(tmp_path, val=1, test=1) / 'annotations'
    content = json.loads((path / 'instances_train2017.json').read_text())
    labels = {image['id']: set() for image in content['images']}
    for item in content['annotations']:
        labels[item['image_id']].add(item['category_id'] - 1)
    for seed in range(3):
        chosen = stratified_split(list(labels.values()), 1, 90, seed)
        assert chosen.sum() == 12


def test_cards(tmp_path):
    root = write_cards(tmp_path, 12, 5)
    assert len(read_set(root, 'train')) == 12
    assert len(read_set(root, 'test')) == 5
    names = {
        item.findtext('name')
        for path in root.glob('Annotations/*.xml')
        for item in objects(root, path.stem)
    }
    assert names == {'nine', 'ten', 'jack', 'queen', 'king', 'ace'}


def test_converter_reads_cub_and_ilsvrc(tmp_path):
    birds = read_cub(write_cub(tmp_path))
    assert {split: len(data.labels) for split, data in birds.items()} == {'train': 200, 'test': 200}
    assert set(birds['test'].labels.values()) == set(range(200))
    write_ilsvrc(tmp_path, 12, 5)
    things = read_ilsvrc(tmp_path)
    assert len(things['train'].labels) == 12 and len(things['val'].boxes) == 5
    classes = things['val'].classes
    assert len(classes) == len(set(classes)) == 1000


def test_openimages_masks(tmp_path):
    root = write_openimages(tmp_path)
    for split in ('val', 'test'):
        metadata = read_wsol_metadata(str(root / 'metadata' / split))
        assert sorted(metadata.labels.values()) == list(range(100))
        for image, masks in metadata.masks.items():
            with Image.open(root / image) as opened:
                assert opened.size == metadata.sizes[image]
            instance, ignore = (
                np.array(Image.open(root / path)) for path in (*masks.instances, masks.ignore)
            )
            assert instance.shape == ignore.shape == metadata.sizes[image][::-1]
            assert instance.any() and not (instance & ignore).any()
    assert not read_wsol_metadata(str(root / 'metadata/train')).masks


@pytest.mark.parametrize(
    'write', [write_coco, write_voc, write_cards, write_ilsvrc, write_cub, write_openimages]
)
def test_a_seed_gives_the_same_files(tmp_path, write):
    few = {write_coco: (12, 4, 2), write_voc: (12, 4, 12, 4)}.get(write, ())
    first, same, other = (
        files(write(tmp_path / str(i), *few, seed=seed).parent) for i, seed in enumerate((3, 3, 4))
    )
    assert first == same and set(first) == set(other) and first != other


def files(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob('*') if path.is_file()}
