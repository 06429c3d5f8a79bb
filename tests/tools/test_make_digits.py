"""Digits in clutter: files, options, and files that are kept."""

import hashlib
import json
import sys

import cv2
import make_digits
import numpy as np
import pytest
from mmdet.utils import register_all_modules
from PIL import Image
from pycocotools.coco import COCO

from mmgwap.datasets.wsol_metadata import read_wsol_metadata

from ..datasets.test_wsol import configured

register_all_modules()


def make(out, *options):
    """Run the converter in this process."""
    with pytest.MonkeyPatch.context() as patch:
        out = ['--out', out] if out else []
        patch.setattr(sys, 'argv', ['make_digits.py', *map(str, [*out, *options])])
        make_digits.main()


def digest(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp('digits')
    make(out, '--train', 12, '--val', 5)
    return out


@pytest.mark.parametrize('split, count', [('train', 12), ('val', 5)])
def test_it_is_a_coco_data_set(folder, split, count):
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
            lines, columns = np.nonzero(mask)
            assert ann['area'] == mask.sum() == len(lines)
            assert ann['bbox'] == [
                columns.min(),
                lines.min(),
                columns.max() + 1 - columns.min(),
                lines.max() + 1 - lines.min(),
            ]


def test_the_same_seed_gives_the_same_files(folder, tmp_path, capsys):
    make(tmp_path, '--train', 12, '--val', 5)
    assert '12/12' in capsys.readouterr().err  # the progress bar
    assert digest(tmp_path) == digest(folder)


def test_the_first_images_do_not_depend_on_the_count(folder, tmp_path):
    make(tmp_path, '--train', 3, '--val', 1)
    here, there = digest(tmp_path), digest(folder)
    images = [path for path in here if path.suffix == '.bmp']
    assert len(images) == 4
    assert all(here[path] == there[path] for path in images)


def test_complete_splits_are_kept(tmp_path, capsys):
    options = '--train', 2, '--val', 1
    make(tmp_path, *options)
    image = tmp_path / 'train' / '000000.bmp'
    image.write_bytes(b'mine')
    capsys.readouterr()
    make(tmp_path, *options)
    assert capsys.readouterr().out.count('is up to date') == 2
    assert image.read_bytes() == b'mine'
    make(tmp_path, *options, '--force')
    assert image.read_bytes() != b'mine'


def test_an_interrupted_split_is_made_again(tmp_path):
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
def test_wrong_options_are_named(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit, match='2'):
        make(tmp_path, *options)
    assert message in capsys.readouterr().err


@pytest.fixture(scope='module')
def singles(tmp_path_factory):
    out = tmp_path_factory.mktemp('data') / 'digits-single'
    make(out, '--single', '--train', 12, '--val', 5)
    return out


def corners(mask):
    """Return the first and last column and row of a mask."""
    x0, y0, x1, y1 = 10**6, 10**6, -1, -1
    for y, line in enumerate(mask):
        for x, value in enumerate(line):
            if value:
                x0, y0 = min(x0, x), min(y0, y)
                x1, y1 = max(x1, x), max(y1, y)
    return [x0, y0, x1, y1]


@pytest.mark.parametrize('split, count', [('train', 12), ('val', 5)])
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
        (one,) = coco.imgToAnns[image['id']]
        assert image['image_labels'] == [one['category_id']]
        assert coco.cats[one['category_id']]['name'] == known.classes[known.labels[name]]
        width, height = known.sizes[name]
        assert cv2.imread(str(singles / name)).shape == (height, width, 3)
        (path,), ignore = known.masks[name]
        assert ignore is None
        mask = coco.annToMask(one)
        for read in (
            cv2.imread(str(singles / 'masks' / path), -1),
            np.array(Image.open(singles / 'masks' / path)),
        ):
            assert read.dtype == np.uint8 and read.tolist() == (255 * mask).tolist()
        assert known.boxes[name].tolist() == [corners(mask)]


def test_single_digits_have_the_same_files(singles, tmp_path):
    make(tmp_path, '--single', '--train', 12, '--val', 5)
    files = digest(tmp_path)
    assert files == digest(singles)
    assert len(files) == 2 * 17 + 2 + 2 * 6


def test_masks_are_stored_uncompressed(singles):
    """Encoders differ between machines."""
    path = singles / 'masks/val/000000.png'
    mask = np.array(Image.open(path))
    lines = b''.join(b'\0' + line.tobytes() for line in mask)
    assert lines in path.read_bytes()


def test_single_digits_fit_their_config(singles):
    for loader, count in (('train', 12), ('val', 5)):
        dataset = configured('digits_single', singles.parent, loader)
        assert len(dataset) == count
        assert dataset.metainfo['classes'] == tuple('0123456789')
        known = read_wsol_metadata(str(singles / 'metadata' / loader))
        for i, name in enumerate(known.labels):
            sample = dataset[i]['data_samples']
            assert sample.img_id == name
            assert sample.gt_image_labels.tolist() == [known.labels[name]]
            inputs = dataset[i]['inputs'].numpy().transpose(1, 2, 0)
            if loader == 'train':  # augmented
                assert inputs.shape == (56, 56, 3)
                continue
            pixels = cv2.imread(str(singles / name))
            assert np.array_equal(inputs, cv2.resize(pixels, (64, 64)))


def test_complete_single_digits_are_kept(tmp_path, capsys):
    options = '--single', '--train', 2, '--val', 1
    make(tmp_path, *options)
    whole = digest(tmp_path)
    labels = tmp_path / 'metadata/train/class_labels.txt'
    labels.write_text('mine')
    make(tmp_path, *options)
    assert capsys.readouterr().out.count('is up to date') == 2
    assert labels.read_text() == 'mine'
    make(tmp_path, *options, '--force')
    assert digest(tmp_path) == whole


def test_the_forms_do_not_mix(folder, singles, tmp_path):
    (tmp_path / 'metadata').mkdir()  # an interrupted run
    for there, options, message in (
        (folder, ['--single'], 'images with one to four digits'),
        (singles, [], 'images with one digit'),
        (tmp_path, [], 'images with one digit'),
    ):
        before = digest(there)
        for force in ([], ['--force']):
            with pytest.raises(SystemExit, match=message):
                make(there, '--train', 1, *options, *force)
        assert digest(there) == before


@pytest.mark.parametrize(
    'options, out', [([], 'data/digits'), (['--single'], 'data/digits-single')]
)
def test_default_folder(tmp_path, monkeypatch, options, out):
    monkeypatch.chdir(tmp_path)
    make(None, '--train', 1, '--val', 1, *options)
    written = [
        path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob('annotations')
    ]
    assert written == [out]
