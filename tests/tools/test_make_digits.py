"""The converter: files, flags, and what it leaves alone."""

import hashlib
import json
import runpy
import subprocess
import sys

import cv2
import numpy as np
import pytest
from mmdet.utils import register_all_modules
from PIL import Image
from pycocotools.coco import COCO

from mmgwap.datasets.wsol_metadata import read_wsol_metadata

from ..datasets.test_wsol import configured

register_all_modules()


def make(repo, out, *options):
    return subprocess.run(
        [sys.executable, 'tools/dataset_converters/make_digits.py', '--out', str(out), *options],
        cwd=repo,
        capture_output=True,
        text=True,
    )


def digest(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


@pytest.fixture(scope='module')
def folder(repo, tmp_path_factory):
    out = tmp_path_factory.mktemp('digits')
    done = make(repo, out, '--train', '12', '--val', '5')
    assert done.returncode == 0, done.stderr
    assert '12/12' in done.stderr  # the progress bar
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


def test_the_same_seed_gives_the_same_files(repo, folder, tmp_path):
    assert make(repo, tmp_path, '--train', '12', '--val', '5').returncode == 0
    assert digest(tmp_path) == digest(folder)


def test_the_first_images_do_not_depend_on_how_many_there_are(repo, folder, tmp_path):
    make(repo, tmp_path, '--train', '3', '--val', '1')
    here, there = digest(tmp_path), digest(folder)
    images = [path for path in here if path.suffix == '.bmp']
    assert len(images) == 4
    assert all(here[path] == there[path] for path in images)


def test_what_is_complete_is_left_alone(repo, tmp_path):
    make(repo, tmp_path, '--train', '2', '--val', '1')
    image = tmp_path / 'train' / '000000.bmp'
    image.write_bytes(b'mine')
    done = make(repo, tmp_path, '--train', '2', '--val', '1')
    assert done.stdout.count('is up to date') == 2
    assert image.read_bytes() == b'mine'
    make(repo, tmp_path, '--train', '2', '--val', '1', '--force')
    assert image.read_bytes() != b'mine'


def test_an_interrupted_split_is_made_again(repo, tmp_path):
    make(repo, tmp_path, '--train', '2', '--val', '1')
    annotations = tmp_path / 'annotations' / 'train.json'
    whole = annotations.read_text()
    annotations.write_text(whole[:100])
    make(repo, tmp_path, '--train', '2', '--val', '1')
    assert json.loads(annotations.read_text()) == json.loads(whole)


@pytest.mark.parametrize(
    'options, message',
    [
        (['--train', '0'], '0 is less than 1'),
        (['--val', 'x'], 'invalid'),
        (['--seed', '-1'], '-1 is not in 0 to 2^32 - 1'),
    ],
)
def test_wrong_flags_are_named(repo, tmp_path, options, message):
    done = make(repo, tmp_path, *options)
    assert done.returncode == 2 and message in done.stderr


@pytest.fixture
def run_here(repo, monkeypatch):
    """Run the converter in this process, which spares its imports."""

    def run(*options):
        monkeypatch.setattr(sys, 'argv', ['make_digits.py', *map(str, options)])
        runpy.run_path(str(repo / 'tools/dataset_converters/make_digits.py'), run_name='__main__')

    return run


@pytest.fixture(scope='module')
def singles(repo, tmp_path_factory):
    out = tmp_path_factory.mktemp('data') / 'digits-single'
    done = make(repo, out, '--single', '--train', '12', '--val', '5')
    assert done.returncode == 0, done.stderr
    return out


def corners(mask):
    """First and last column and line of a mask, pixel by pixel."""
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


def test_single_digits_have_the_same_files(run_here, singles, tmp_path):
    run_here('--out', tmp_path, '--single', '--train', 12, '--val', 5)
    files = digest(tmp_path)
    assert files == digest(singles)
    assert len(files) == 2 * 17 + 2 + 2 * 6


def test_masks_are_stored_as_they_are(singles):
    """So that no encoder has a say in their bytes."""
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
            if loader == 'train':  # shifted, and in other colours
                assert inputs.shape == (56, 56, 3)
                continue
            pixels = cv2.imread(str(singles / name))
            assert np.array_equal(inputs, cv2.resize(pixels, (64, 64)))


def test_complete_single_digits_are_left_alone(run_here, tmp_path, capsys):
    options = '--out', tmp_path, '--single', '--train', 2, '--val', 1
    run_here(*options)
    whole = digest(tmp_path)
    labels = tmp_path / 'metadata/train/class_labels.txt'
    labels.write_text('mine')
    run_here(*options)
    assert capsys.readouterr().out.count('is up to date') == 2
    assert labels.read_text() == 'mine'
    run_here(*options, '--force')
    assert digest(tmp_path) == whole


def test_the_forms_do_not_mix(run_here, folder, singles, tmp_path):
    (tmp_path / 'metadata').mkdir()  # as an interrupted run leaves it
    for there, options, message in (
        (folder, ['--single'], 'images with one to four digits'),
        (singles, [], 'images with one digit'),
        (tmp_path, [], 'images with one digit'),
    ):
        before = digest(there)
        for force in ([], ['--force']):
            with pytest.raises(SystemExit, match=message):
                run_here('--out', there, '--train', 1, *options, *force)
        assert digest(there) == before


@pytest.mark.parametrize(
    'options, out', [([], 'data/digits'), (['--single'], 'data/digits-single')]
)
def test_where_it_writes_if_not_told(run_here, tmp_path, monkeypatch, options, out):
    monkeypatch.chdir(tmp_path)
    run_here('--train', 1, '--val', 1, *options)
    written = [
        path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob('annotations')
    ]
    assert written == [out]
