"""Digits in clutter: files, options, and files that are kept."""

import json
import sys

import cv2
import make_digits
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mmgwap.datasets.wsol_metadata import read_wsol_metadata


def make(out, *options):
    """Run the converter in this process."""
    with pytest.MonkeyPatch.context() as patch:
        out = ['--out', out] if out else []
        patch.setattr(sys, 'argv', ['make_digits.py', *map(str, [*out, *options])])
        make_digits.main()


def corners(mask):
    """Return the first and last column and row of a mask."""
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max(), rows.max()]


def read_files(folder):
    files = (path for path in folder.rglob('*') if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp('digits')
    make(out, '--train', 12, '--val', 5)
    return out


both_splits = pytest.mark.parametrize('split, count', [('train', 12), ('val', 5)])


@both_splits
def test_write_a_coco_data_set(folder, split, count):
    coco = COCO(folder / 'annotations' / f'{split}.json')
    assert len(coco.imgs) == count == len(list((folder / split).iterdir()))
    assert [c['name'] for c in coco.cats.values()] == list('0123456789')
    for image in coco.imgs.values():
        pixels = cv2.imread(str(folder / split / image['file_name']))
        assert pixels.shape == (image['height'], image['width'], 3)
        anns = coco.imgToAnns[image['id']]
        assert image['image_labels'] == sorted({ann['category_id'] for ann in anns})
        for ann in anns:
            mask = coco.annToMask(ann)
            x1, y1, x2, y2 = corners(mask)
            assert ann['area'] == mask.sum() > 0
            assert ann['bbox'] == [x1, y1, x2 + 1 - x1, y2 + 1 - y1]


def test_same_seed_gives_the_same_files(folder, tmp_path, capsys):
    make(tmp_path, '--train', 12, '--val', 5)
    assert '12/12' in capsys.readouterr().err  # the progress bar
    assert read_files(tmp_path) == read_files(folder)


def test_first_images_do_not_depend_on_the_count(folder, tmp_path):
    make(tmp_path, '--train', 3, '--val', 1)
    here, there = read_files(tmp_path), read_files(folder)
    images = [path for path in here if path.suffix == '.bmp']
    assert len(images) == 4
    assert all(here[path] == there[path] for path in images)


@pytest.mark.parametrize(
    'form, name', [((), 'train/000000.bmp'), (('--single',), 'metadata/train/class_labels.txt')]
)
def test_keep_complete_splits(tmp_path, capsys, form, name):
    options = *form, '--train', 2, '--val', 1
    make(tmp_path, *options)
    whole = read_files(tmp_path)
    (tmp_path / name).write_bytes(b'mine')
    make(tmp_path, *options)
    assert capsys.readouterr().out.count('is up to date') == 2
    assert (tmp_path / name).read_bytes() == b'mine'
    make(tmp_path, *options, '--force')
    assert read_files(tmp_path) == whole


def test_make_an_interrupted_split_again(tmp_path):
    make(tmp_path, '--train', 2, '--val', 1)
    annotations = tmp_path / 'annotations' / 'train.json'
    whole = annotations.read_text()
    annotations.write_text(whole[:100])
    make(tmp_path, '--train', 2, '--val', 1)
    assert json.loads(annotations.read_text()) == json.loads(whole)


@pytest.mark.parametrize(
    'options, message',
    [
        (['--train', 0], '0 is less than 1'),
        (['--val', 'x'], 'invalid'),
        (['--seed', -1], '-1 is not in 0 to 2^32 - 1'),
    ],
)
def test_wrong_options(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit, match='2'):
        make(tmp_path, *options)
    assert message in capsys.readouterr().err


@pytest.fixture(scope='module')
def singles(tmp_path_factory):
    out = tmp_path_factory.mktemp('data') / 'digits-single'
    make(out, '--single', '--train', 12, '--val', 5)
    return out


@both_splits
def test_single_digits_in_both_layouts(singles, split, count):
    coco = COCO(singles / 'annotations' / f'{split}.json')
    assert coco.dataset['info']['description'] == f'digits in clutter, one an image, {split}'
    known = read_wsol_metadata(str(singles / 'metadata' / split))
    assert known.classes == tuple('0123456789')
    names = [f'{split}/{image["file_name"]}' for image in coco.imgs.values()]
    assert len(names) == count
    for table in (known.labels, known.sizes, known.boxes, known.masks):
        assert list(table) == names
    for image, name in zip(coco.imgs.values(), names):
        (ann,) = coco.imgToAnns[image['id']]
        assert image['image_labels'] == [ann['category_id']]
        assert coco.cats[ann['category_id']]['name'] == known.classes[known.labels[name]]
        width, height = known.sizes[name]
        assert cv2.imread(str(singles / name)).shape == (height, width, 3)
        (path,), ignore = known.masks[name]
        assert ignore is None
        mask = coco.annToMask(ann)
        read = cv2.imread(str(singles / 'masks' / path), -1)
        assert read.dtype == np.uint8 and read.tolist() == (255 * mask).tolist()
        assert known.boxes[name].tolist() == [corners(mask)]


def test_uncompressed_masks(singles):
    """Store masks without compression, because encoders differ between machines."""
    path = singles / 'masks/val/000000.png'
    mask = np.array(Image.open(path))
    lines = b''.join(b'\0' + line.tobytes() for line in mask)
    assert lines in path.read_bytes()


def test_refuse_to_mix_forms_in_a_folder(folder, singles, tmp_path):
    (tmp_path / 'metadata').mkdir()  # an interrupted run
    for there, options, message in (
        (folder, ['--single'], 'images with one to four digits'),
        (singles, [], 'images with one digit'),
        (tmp_path, [], 'images with one digit'),
    ):
        before = read_files(there)
        for force in ([], ['--force']):
            with pytest.raises(SystemExit, match=message):
                make(there, '--train', 1, *options, *force)
        assert read_files(there) == before


@pytest.mark.parametrize(
    'options, out', [([], 'data/digits'), (['--single'], 'data/digits-single')]
)
def test_default_folder(tmp_path, monkeypatch, options, out):
    monkeypatch.chdir(tmp_path)
    make(None, '--train', 1, '--val', 1, *options)
    (written,) = tmp_path.rglob('annotations')
    assert written == tmp_path / out / 'annotations'
