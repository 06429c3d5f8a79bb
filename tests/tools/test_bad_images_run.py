"""Training and test with on_bad_image: unreadable images are skipped, or end the run."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.datasets.bad_files import BAD_FILES
from tests.toy_data import tiny_rfcn_run

KINDS = ('truncated_jpeg', 'empty', 'text', 'gif_header', 'png_header')
# Unreadable images by split: 10 of 40 for training, 2 of 8 for validation.
BAD = {
    split: [f'{split}/{index:06d}.bmp' for index in indices]
    for split, indices in (('train', range(3, 40, 4)), ('val', (2, 6)))
}


@pytest.fixture(scope='module')
def bad_digits(tool, tmp_path_factory):
    """Digits in clutter with unreadable images and boxes without width."""
    out = tmp_path_factory.mktemp('bad')
    tool('tools/dataset_converters/make_digits.py', '--out', out, '--train', '40', '--val', '8')
    for names in BAD.values():
        for number, name in enumerate(names):
            assert (out / name).exists()
            (out / name).write_bytes(BAD_FILES[KINDS[number % len(KINDS)]])
    path = out / 'annotations' / 'train.json'
    content = json.loads(path.read_text())
    for annotation in content['annotations'][::20]:
        annotation['bbox'][2] = 0
    path.write_text(json.dumps(content))
    return out


@pytest.fixture(scope='module')
def skipping(repo, bad_digits, tmp_path_factory):
    """Config of 10 iterations, which read each image once."""
    loaders = [f'{name}_dataloader' for name in ('train', 'val', 'test')]
    skip = {f'{loader}.dataset.on_bad_image': 'skip' for loader in loaders}
    cfg = tiny_rfcn_run(repo / 'configs', bad_digits, 10, **skip)
    path = tmp_path_factory.mktemp('config') / 'skip.py'
    cfg.dump(path)
    return path


def check(work_dir, root, text):
    """Check the log of a run and its list of unreadable images."""
    assert 'end of training: 10 of 40 images could not be read and were skipped' in text
    (listed,) = work_dir.glob('*/bad_images.txt')
    expected = [str(root / name) for names in BAD.values() for name in names]
    assert sorted(listed.read_text().splitlines()) == sorted(expected)
    assert 'val: 2 of 8 images could not be read' in text
    assert re.search(r'dropped \d+ boxes', text)
    assert (work_dir / 'last_checkpoint').exists()


def test_training_and_test_skip_unreadable_images(tool, skipping, bad_digits, tmp_path):
    text = tool('tools/train.py', skipping, '--work-dir', tmp_path).stdout
    check(tmp_path, bad_digits, text)
    for name in BAD['train'] + BAD['val']:
        assert text.count(f'{name} cannot be read and is skipped: ') == 1
    options = ['--tta', '--work-dir', tmp_path / 'test', '--show-dir', tmp_path / 'pictures']
    text = tool('tools/test.py', skipping, tmp_path / 'iter_10.pth', *options).stdout
    assert 'test: 2 of 8 images could not be read' in text
    assert len(list((tmp_path / 'pictures').iterdir())) == 6


@pytest.mark.slow
def test_two_processes_report_together(repo, skipping, bad_digits, tmp_path):
    options = 'train_cfg.max_iters=5 train_cfg.val_interval=5 train_dataloader.num_workers=1'
    command = ['tools/dist_train.sh', skipping, '2', '--work-dir', tmp_path, '--cfg-options']
    done = subprocess.run(
        [*command, *options.split()],
        cwd=repo,
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHON=sys.executable, PORT='29631'),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check(tmp_path, bad_digits, done.stdout)


def test_training_stops_at_an_unreadable_image_by_default(tool, skipping, bad_digits, tmp_path):
    options = ['--cfg-options', 'train_dataloader.dataset.on_bad_image=error']
    done = tool('tools/train.py', skipping, '--work-dir', tmp_path, *options, check=False)
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert 'cannot prepare ' in line and "on_bad_image='skip'" in line
    assert any(str(bad_digits / name) in line for name in BAD['train'])
