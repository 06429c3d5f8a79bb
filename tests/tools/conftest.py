"""A tiny run of the command-line tools, made once."""

import pytest


@pytest.fixture(scope='session')
def single(tool, tmp_path_factory):
    """Digits in clutter, one an image, 16 + 7 images."""
    out = tmp_path_factory.mktemp('single')
    tool(
        'tools/dataset_converters/make_digits.py',
        '--single',
        '--out',
        out,
        '--train',
        '16',
        '--val',
        '7',
    )
    return out


@pytest.fixture(scope='session')
def trained(tool, config, tmp_path_factory):
    """The work directory of that run."""
    work_dir = tmp_path_factory.mktemp('run')
    tool('tools/train.py', config, '--work-dir', work_dir)
    return work_dir
