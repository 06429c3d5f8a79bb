"""A training on data of which a part cannot be read."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.datasets.bad_files import BAD_FILES
from tests.toy_data import tiny_rfcn_run

KINDS = ('truncated_jpeg', 'empty', 'text', 'gif_header', 'png_header')
# 5 % of 40 images of each kind, and two more to measure on.
BAD = {
    split: [f'{split}/{place:06d}.bmp' for place in places]
    for split, places in (('train', range(3, 40, 4)), ('val', (2, 6)))
}


@pytest.fixture(scope='module')
def bad_digits(tool, tmp_path_factory):
    """Digits in clutter, 40 + 8 images, some files and boxes bad."""
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
    """A config of 10 iterations, in which each image is taken once."""
    cfg = tiny_rfcn_run(
        repo / 'configs',
        bad_digits,
        10,
        **{f'{name}_dataloader.dataset.on_bad_image': 'skip' for name in ('train', 'val', 'test')},
    )
    path = tmp_path_factory.mktemp('config') / 'skip.py'
    cfg.dump(path)
    return path


def check(work_dir, root, text, images):
    """The log and the list of a run say the same."""
    assert (
        f'end of training: {images} of 40 images could not be read and were skipped, such as '
    ) in text
    (listed,) = work_dir.glob('*/bad_images.txt')
    wanted = {str(root / name) for names in BAD.values() for name in names}
    lines = listed.read_text().splitlines()
    assert set(lines) == wanted and len(lines) == len(wanted)
    assert 'val: 2 of 8 images could not be read' in text
    assert re.search(r'dropped \d+ boxes', text)
    assert (work_dir / 'last_checkpoint').exists()


def test_a_training_goes_on_to_its_end(tool, skipping, bad_digits, tmp_path):
    text = tool('tools/train.py', skipping, '--work-dir', tmp_path).stdout
    check(tmp_path, bad_digits, text, len(BAD['train']))
    for names in BAD.values():
        for name in names:  # each is told once
            assert len(re.findall(f'{name} cannot be read and is skipped: ', text)) == 1
    measured = tool(
        'tools/test.py',
        skipping,
        tmp_path / 'iter_10.pth',
        '--tta',
        '--work-dir',
        tmp_path / 'test',
        '--show-dir',
        tmp_path / 'pictures',
    ).stdout
    assert 'test: 2 of 8 images could not be read' in measured
    assert len(list((tmp_path / 'pictures').iterdir())) == 6


@pytest.mark.slow
def test_two_processes_count_together(repo, skipping, bad_digits, tmp_path):
    done = subprocess.run(
        [
            'tools/dist_train.sh',
            str(skipping),
            '2',
            '--work-dir',
            str(tmp_path),
            '--cfg-options',
            'train_cfg.max_iters=5',
            'train_cfg.val_interval=5',
            'train_dataloader.num_workers=1',
        ],
        cwd=repo,
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHON=sys.executable, PORT='29631'),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check(tmp_path, bad_digits, done.stdout, len(BAD['train']))


def test_by_default_it_stops_at_the_first(tool, skipping, bad_digits, tmp_path):
    done = tool(
        'tools/train.py',
        skipping,
        '--work-dir',
        tmp_path,
        '--cfg-options',
        'train_dataloader.dataset.on_bad_image=error',
        check=False,
    )
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert 'cannot prepare ' in line and "on_bad_image='skip'" in line
    assert any(str(bad_digits / name) in line for name in BAD['train'])
