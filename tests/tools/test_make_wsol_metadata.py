"""ILSVRC CLS-LOC, CUB-200-2011 and COCO layout in miniature, whole and with faults."""

import json
import os

import numpy as np
import pytest
from mmdet.utils import register_all_modules
from wsol_sources import read_coco, read_cub, read_ilsvrc
from wsol_writer import write_wsol_metadata

from mmgwap.datasets.wsol_metadata import Masks, WSOLMetadata, read_wsol_metadata

from ..datasets.helpers import write_image
from ..datasets.test_wsol import configured

register_all_modules()
TOOL = 'tools/dataset_converters/make_wsol_metadata.py'
BIRD, LIFT, FISH = 'n02012849', 'n03126707', 'n01440764'
TRAIN = [f'{wnid}/{wnid}_{i}' for wnid in (LIFT, FISH, BIRD) for i in (7, 18)]
VAL = {
    'ILSVRC2012_val_00000001': (BIRD, (70, 50), [(1, 2, 69, 49)]),
    'ILSVRC2012_val_00000002': (FISH, (40, 60), [(0, 0, 40, 60), (5, 6, 5, 6)]),
}
XML = """<annotation><size><width>{}</width><height>{}</height>
<depth>3</depth></size><segmented>0</segmented>{}</annotation>"""
OBJECT = """<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin>
<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""
CUB = {
    '001.Black/B_2.jpg': (1, 1, (60.0, 27.0, 25.0, 30.0), (100, 80)),
    '001.Black/B_10.jpg': (1, 0, (0.0, 1.5, 19.0, 8.0), (20, 30)),
    '002.White/W_1.jpg': (2, 0, (3.0, 4.0, 1.0, 1.0), (30, 20)),
}


@pytest.fixture
def ilsvrc(tmp_path):
    home = tmp_path / 'ILSVRC'
    images = home / 'Data/CLS-LOC'
    lists = home / 'ImageSets/CLS-LOC'
    boxes = home / 'Annotations/CLS-LOC/val'
    lists.mkdir(parents=True), boxes.mkdir(parents=True)
    for name in TRAIN:
        write_image(images / f'train/{name}.JPEG', (30, 40))
    for name, (wnid, (width, height), objects) in VAL.items():
        write_image(images / f'val/{name}.JPEG', (height, width))
        text = ''.join(OBJECT.format(wnid, *box) for box in objects)
        (boxes / f'{name}.xml').write_text(XML.format(width, height, text))
    for file, names in (('train_cls', TRAIN), ('val', VAL)):
        text = ''.join(f'{name} {i}\n' for i, name in enumerate(names, 1))
        (lists / f'{file}.txt').write_text(text)
    return tmp_path


@pytest.fixture
def cub(tmp_path):
    home = tmp_path / 'CUB_200_2011'
    tables = dict(images='', image_class_labels='', train_test_split='', bounding_boxes='')
    for i, (image, (label, train, box, (width, height))) in enumerate(CUB.items(), 1):
        write_image(home / 'images' / image, (height, width))
        tables['images'] += f'{i} {image}\n'
        tables['image_class_labels'] += f'{i} {label}\n'
        tables['train_test_split'] += f'{i} {train}\n'
        tables['bounding_boxes'] += f'{i} {" ".join(map(str, box))}\n'
    for name, text in dict(tables, classes='1 001.Black\n2 002.White\n').items():
        (home / f'{name}.txt').write_text(text)
    return home


def test_convert_ilsvrc(tool, ilsvrc):
    names = f'{FISH} tench, Tinca tinca\n{BIRD} crane\n{LIFT} crane\n'
    (ilsvrc / 'LOC_synset_mapping.txt').write_text(names)
    out = ilsvrc / 'ILSVRC/metadata'
    done = tool(TOOL, 'ilsvrc', ilsvrc, out)
    assert '6 images of 3 classes, 0 boxes' in done.stdout
    assert '2 images of 3 classes, 3 boxes' in done.stdout
    assert '2/2' in done.stderr  # the progress bar
    train, val = (read_wsol_metadata(str(out / split)) for split in ('train', 'val'))
    assert train.classes == val.classes
    assert val.classes == ('tench, Tinca tinca', f'crane ({BIRD})', f'crane ({LIFT})')
    assert list(train.labels) == [f'train/{name}.JPEG' for name in TRAIN]
    assert list(train.labels.values()) == [2, 2, 0, 0, 1, 1]
    assert train.sizes == train.boxes == {}
    first, second = (f'val/{name}.JPEG' for name in VAL)
    assert list(val.labels.items()) == [(first, 1), (second, 0)]
    assert val.sizes == {first: (70, 50), second: (40, 60)}
    assert val.boxes[first].tolist() == [[1, 2, 69, 49]]
    assert val.boxes[second].tolist() == [[0, 0, 40, 60], [5, 6, 5, 6]]
    assert '0,0,40,60' in (out / 'val/localization.txt').read_text()
    check_samples('ilsvrc_cls_loc', ilsvrc, 'train/n03126707/n03126707_7.JPEG', 2, (50, 70))


def check_samples(name, root, image, label, size):
    """Load the first sample of both splits with the base config."""
    train, test = (configured(name, root, loader)[0] for loader in ('train', 'val'))
    assert train['inputs'].shape == test['inputs'].shape == (3, 224, 224)
    assert train['data_samples'].img_id == image
    assert train['data_samples'].gt_image_labels.tolist() == [label]
    assert test['data_samples'].ori_shape == size


def test_read_ilsvrc_without_class_names(ilsvrc):
    splits = read_ilsvrc(ilsvrc)
    assert splits['val'].classes == (FISH, BIRD, LIFT)


def test_convert_cub(tool, cub):
    out = cub / 'metadata'
    done = tool(TOOL, 'cub', cub, out)
    assert '1 images of 2 classes, 1 boxes' in done.stdout
    assert '3/3' in done.stderr
    train, test = (read_wsol_metadata(str(out / split)) for split in ('train', 'test'))
    one, *two = CUB
    assert train.labels == {one: 0} and train.sizes == {one: (100, 80)}
    assert train.boxes[one].tolist() == [[60, 27, 85, 57]]
    assert list(test.labels.items()) == [(two[0], 0), (two[1], 1)]
    assert test.sizes == {two[0]: (20, 30), two[1]: (30, 20)}
    assert [test.boxes[image].tolist() for image in two] == [[[0, 1.5, 19, 9.5]], [[3, 4, 4, 5]]]
    assert train.classes == test.classes == ('001.Black', '002.White')
    check_samples('cub_200_2011', cub.parent, one, 0, (30, 20))


@pytest.fixture
def coco(tmp_path):
    """Data in COCO layout: images of one class, of two classes, without boxes, with a crowd."""
    images = {'a/one.png': (30, 40), 'two.png': (20, 20), 'none.png': (20, 20), 'crowd.png': (9, 9)}
    boxes = [(1, 7, [1, 2, 3.5, 4], 0), (1, 7, [0, 0, 30, 40], 0), (1, 7, [0, 0, 9, 9], 1)]
    boxes += [(2, 7, [1, 2, 3, 4], 0), (2, 3, [5, 5, 5, 5], 0), (4, 3, [0, 0, 9, 9], 1)]
    content = dict(
        images=[
            dict(id=i, file_name=name, width=w, height=h)
            for i, (name, (w, h)) in enumerate(images.items(), 1)
        ],
        annotations=[
            dict(id=i, image_id=image, category_id=label, bbox=box, iscrowd=crowd, area=1)
            for i, (image, label, box, crowd) in enumerate(boxes, 1)
        ],
        categories=[dict(id=3, name='cat'), dict(id=7, name='dog')],
    )
    (tmp_path / 'annotations').mkdir()
    for split in ('train', 'val'):
        (tmp_path / f'annotations/{split}.json').write_text(json.dumps(content))
    for name, (width, height) in images.items():
        write_image(tmp_path / 'images' / name, (height, width))
    return tmp_path


def test_convert_images_of_one_class_in_coco_layout(tool, coco):
    done = tool(TOOL, 'coco', coco, coco / 'out')
    assert done.stdout.count('1 images of 2 classes, 2 boxes') == 2
    for split in ('train', 'val'):
        found = read_wsol_metadata(str(coco / 'out' / split))
        assert found.labels == {'a/one.png': 1} and found.classes == ('cat', 'dog')
        assert found.sizes == {'a/one.png': (30, 40)}
        assert found.boxes['a/one.png'].tolist() == [[1, 2, 4.5, 6], [0, 0, 30, 40]]
    (coco / 'images/a/one.png').unlink()
    with pytest.raises(FileNotFoundError, match='one.png: missing, and 0 other images'):
        read_coco(coco)


def test_keep_existing_splits(tool, cub, tmp_path):
    out = tmp_path / 'out'
    tool(TOOL, 'cub', cub, out)
    files = {path: path.read_bytes() for path in out.rglob('*.txt')}
    labels = out / 'test/class_labels.txt'
    labels.write_text('mine')
    done = tool(TOOL, 'cub', cub, out, check=False)
    assert done.returncode == 1 and done.stderr.count('\n') == 1
    assert 'train exists already; --force' in done.stderr
    assert labels.read_text() == 'mine'
    tool(TOOL, 'cub', cub, out, '--force')
    assert {path: path.read_bytes() for path in out.rglob('*.txt')} == files


def test_report_errors_in_one_line(tool, tmp_path):
    done = tool(TOOL, 'ilsvrc', tmp_path, tmp_path / 'out', check=False)
    assert done.returncode == 1 and not (tmp_path / 'out').exists()
    assert done.stderr.count('\n') == 1
    assert 'train_cls.txt: missing' in done.stderr


@pytest.mark.parametrize(
    'path',
    [
        'ImageSets/CLS-LOC/val.txt',
        'Data/CLS-LOC/val/ILSVRC2012_val_00000002.JPEG',
        'Annotations/CLS-LOC/val/ILSVRC2012_val_00000002.xml',
    ],
)
def test_missing_files_of_ilsvrc(ilsvrc, path):
    (ilsvrc / 'ILSVRC' / path).unlink()
    with pytest.raises(FileNotFoundError, match=f'{path}: missing'):
        read_ilsvrc(ilsvrc)


def test_count_missing_images(ilsvrc):
    folder = ilsvrc / 'ILSVRC/Data/CLS-LOC/train'
    os.rename(folder / BIRD, folder / 'other')
    with pytest.raises(FileNotFoundError, match=f'{TRAIN[4]}.JPEG: missing, and 1 other'):
        read_ilsvrc(ilsvrc)


BOX = (1, 2, 30, 40)


def boxed(name, *box):
    return XML.format(70, 50, OBJECT.format(name, *box))


@pytest.mark.parametrize(
    'text, message',
    [
        (boxed(BIRD, *BOX)[:-9], 'invalid XML'),
        (XML.format(70, 50, ''), 'one class, got none'),
        (boxed(BIRD, *BOX).replace('<o', OBJECT.format(FISH, *BOX) + '<o', 1), f'{FISH}, {BIRD}'),
        (boxed('n00000001', *BOX), 'n00000001 is not among the 3'),
        (XML.format('', 50, OBJECT.format(BIRD, *BOX)), 'size/width'),
        (XML.format(70, 0, OBJECT.format(BIRD, *BOX)), 'size .* got 70 x 0'),
        (boxed(BIRD, 1, 2, 'x', 4), "bndbox/xmax .* 'x'"),
        (boxed(BIRD, 1, 'nan', 3, 4), 'bndbox/ymin'),
        (XML.format(70, 50, f'<object><name>{BIRD}</name></object>'), 'bndbox/xmin .* None'),
        (boxed(BIRD, 9, 2, 8, 4), '9, 2, 8, 4 is inverted'),
        (boxed(BIRD, 1, 5, 8, 4), '1, 5, 8, 4 is inverted'),
    ],
)
def test_faults_of_xml(ilsvrc, text, message):
    name = 'ILSVRC2012_val_00000001.xml'
    (ilsvrc / 'ILSVRC/Annotations/CLS-LOC/val' / name).write_text(text)
    with pytest.raises(ValueError, match=f'{name}: .*{message}'):
        read_ilsvrc(ilsvrc)


@pytest.mark.parametrize(
    'path, text, message',
    [
        ('LOC_synset_mapping.txt', f'{FISH} tench\n{BIRD}\n', 'line 2: .* 2'),
        ('LOC_synset_mapping.txt', f'{FISH} a\n{FISH} a\n', f'line 2: {FISH} is listed twice'),
        ('ILSVRC/ImageSets/CLS-LOC/val.txt', 'ILSVRC2012_val_00000001\n', 'line 1: .* 2 fields'),
    ],
)
def test_faults_of_lists(ilsvrc, path, text, message):
    (ilsvrc / path).write_text(text)
    with pytest.raises(ValueError, match=f'{path}, {message}'):
        read_ilsvrc(ilsvrc)


def test_class_without_a_name(ilsvrc):
    (ilsvrc / 'LOC_synset_mapping.txt').write_text(f'{FISH} tench\n{BIRD} crane\n')
    with pytest.raises(ValueError, match=f'train_cls.txt: {LIFT} is not among the 2 classes'):
        read_ilsvrc(ilsvrc)


@pytest.mark.parametrize('path', ['images.txt', 'bounding_boxes.txt', 'images/002.White/W_1.jpg'])
def test_missing_files_of_cub(cub, path):
    (cub / path).unlink()
    with pytest.raises(FileNotFoundError, match=f'{path}: missing'):
        read_cub(cub)


@pytest.mark.parametrize(
    'name, old, new, message',
    [
        ('bounding_boxes', '60.0', 'x', "image 1 must be a number, got 'x'"),
        ('bounding_boxes', '60.0 ', '', 'line 1: must have 5 fields'),
        ('bounding_boxes', '25.0', '-25.0', 'image 1: the box 60, 27, 35, 57 is '),
        ('bounding_boxes', '3 3.0 4.0 1.0 1.0\n', '', 'lists 2 images and images.txt 3; 3 is'),
        ('image_class_labels', '3 2', '3 5', 'image 3 has the class 5'),
        ('train_test_split', '3 0', '3 2', 'image 3 must have 0 or 1, got 2'),
        ('images', '3 002', '2 002', 'line 3: 2 is listed twice'),
        ('classes', '2 002.White', '1 002.White', 'line 2: 1 is listed twice'),
    ],
)
def test_faults_of_tables(cub, name, old, new, message):
    path = cub / f'{name}.txt'
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=rf'{name}\.txt.*{message}'):
        read_cub(cub)


def test_broken_image(cub):
    (cub / 'images/002.White/W_1.jpg').write_bytes(b'none')
    with pytest.raises(OSError, match='W_1.jpg'):
        read_cub(cub)


def test_read_what_was_written(tmp_path):
    split = WSOLMetadata(
        labels={'b/1.jpg': 1, 'a/0.jpg': 0, 'c.jpg': 1},
        sizes={'b/1.jpg': (7, 5), 'a/0.jpg': (9, 8)},
        boxes={'a/0.jpg': np.array([[0, 1, 2.5, 30]]), 'b/1.jpg': np.array([[1 / 3, 0, 1, 2]])},
        masks={'b/1.jpg': Masks(['m/1.png', 'm/2.png'], 'm/i.png'), 'a/0.jpg': Masks(['m/3.png'])},
        classes=('cat, tabby', 'Rüde'),
    )
    write_wsol_metadata(tmp_path / 'new' / 'split', split)
    back = read_wsol_metadata(str(tmp_path / 'new' / 'split'))
    assert list(back.labels.items()) == list(split.labels.items())
    assert back.sizes == split.sizes and back.classes == split.classes
    assert back.masks == split.masks
    assert list(back.boxes) == list(split.boxes)
    for image, boxes in split.boxes.items():
        np.testing.assert_array_equal(back.boxes[image], boxes)
    rows = (tmp_path / 'new/split/localization.txt').read_text().splitlines()
    assert 'a/0.jpg,0,1,2.5,30' in rows  # integers have no decimal point
    names = 'class_labels classes image_ids image_sizes localization masks'.split()
    assert sorted(path.stem for path in tmp_path.rglob('*.txt')) == names


def test_remove_files_of_an_older_split(tmp_path):
    labels = {'0.jpg': 0}
    boxes, masks = {'0.jpg': np.ones((1, 4))}, {'0.jpg': Masks(['0.png'])}
    write_wsol_metadata(tmp_path, WSOLMetadata(labels, {'0.jpg': (3, 2)}, boxes, masks, ('cat',)))
    write_wsol_metadata(tmp_path, WSOLMetadata(labels, {}, {}, masks, ()))
    names = ['class_labels', 'image_ids', 'localization']
    assert sorted(path.stem for path in tmp_path.iterdir()) == names
    assert read_wsol_metadata(str(tmp_path)).masks == masks


@pytest.mark.parametrize(
    'labels, classes, message',
    [({'a,b.jpg': 0}, (), 'a,b.jpg: .* comma'), ({'0.jpg': 0}, ('cat', ' '), 'must not be empty')],
)
def test_refuse_to_write_names_with_commas_or_blanks(tmp_path, labels, classes, message):
    with pytest.raises(ValueError, match=message):
        write_wsol_metadata(tmp_path / 'out', WSOLMetadata(labels, {}, {}, {}, classes))
    assert not (tmp_path / 'out').exists()
