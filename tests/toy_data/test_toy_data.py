"""Toy data sets: real layouts, and annotations that agree with the images."""

from xml.etree import ElementTree

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from PIL import Image
from pycocotools.coco import COCO
from wsol_sources import read_cub, read_ilsvrc

from mmgwap.datasets.wsol_metadata import read_wsol_metadata
from tests.toy_data import (
    write_cards,
    write_coco,
    write_cub,
    write_ilsvrc,
    write_openimages,
    write_voc,
)

register_all_modules()


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('data'), train=25, val=12)


@pytest.fixture(scope='module')
def voc(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp('data'), 40, 12, 60, 5)


def test_coco_annotations_fit_the_images(coco):
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


@pytest.mark.parametrize('year', [2007, 2012])
def test_voc_sets_fit_the_annotations(voc, year):
    home = voc / f'VOC{year}'
    trainval, train, val, test = (read_set(home, s) for s in ('trainval', 'train', 'val', 'test'))
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
            labelled = [item for item in objects(home, name) if item.findtext('name') == label]
            flags = [int(item.findtext('difficult')) for item in labelled]
            assert int(flag) == (-1 if not flags else 0 if all(flags) else 1)
            difficult += sum(flags)
    assert difficult


def read_set(home, name):
    return (home / f'ImageSets/Main/{name}.txt').read_text().splitlines()


def objects(home, name):
    root = ElementTree.parse(home / 'Annotations' / f'{name}.xml').getroot()
    return root.findall('object')


def test_convert_cub_and_ilsvrc(tmp_path):
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
            paths = (*masks.instances, masks.ignore)
            instance, ignore = (np.array(Image.open(root / path)) for path in paths)
            assert instance.shape == ignore.shape == metadata.sizes[image][::-1]
            assert instance.any() and not (instance & ignore).any()
    assert not read_wsol_metadata(str(root / 'metadata/train')).masks


@pytest.mark.parametrize(
    'write', [write_coco, write_voc, write_cards, write_ilsvrc, write_cub, write_openimages]
)
def test_same_seed_gives_the_same_files(tmp_path, write):
    few = {write_coco: (12, 4, 2), write_voc: (12, 4, 12, 4)}.get(write, ())
    roots = [write(tmp_path / str(i), *few, seed=seed).parent for i, seed in enumerate((3, 3, 4))]
    first, same, other = map(read_files, roots)
    assert first == same and set(first) == set(other) and first != other


def read_files(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob('*') if path.is_file()}
