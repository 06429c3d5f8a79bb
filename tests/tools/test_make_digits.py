"""The converter: files, flags, and what it leaves alone."""
import hashlib
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO


def make(repo, out, *options):
    return subprocess.run(
        [sys.executable, 'tools/dataset_converters/make_digits.py', '--out',
         str(out), *options], cwd=repo, capture_output=True, text=True)


def digest(folder):
    return {path.relative_to(folder): hashlib.sha256(
        path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*')) if path.is_file()}


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
        assert image['image_labels'] == sorted(
            {ann['category_id'] for ann in anns})
        for ann in anns:
            mask = coco.annToMask(ann)
            lines, columns = np.nonzero(mask)
            assert ann['area'] == mask.sum() == len(lines)
            assert ann['bbox'] == [
                columns.min(), lines.min(),
                columns.max() + 1 - columns.min(),
                lines.max() + 1 - lines.min()]


def test_the_same_seed_gives_the_same_files(repo, folder, tmp_path):
    assert make(repo, tmp_path, '--train', '12', '--val',
                '5').returncode == 0
    assert digest(tmp_path) == digest(folder)


def test_the_first_images_do_not_depend_on_how_many_there_are(
        repo, folder, tmp_path):
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


@pytest.mark.parametrize('options, message', [
    (['--train', '0'], '0 is less than 1'),
    (['--val', 'x'], 'invalid'),
    (['--seed', '-1'], '-1 is not in 0 to 2^32 - 1')])
def test_wrong_flags_are_named(repo, tmp_path, options, message):
    done = make(repo, tmp_path, *options)
    assert done.returncode == 2 and message in done.stderr
