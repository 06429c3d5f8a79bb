"""Data and a tiny training for the tests of the command-line tools."""

import pytest


@pytest.fixture(scope='session')
def single(tool, tmp_path_factory):
    """Folder of images with one digit each, 16 for training and 7 for validation."""
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
    """Work directory of a training of ``config``."""
    work_dir = tmp_path_factory.mktemp('run')
    tool('tools/train.py', config, '--work-dir', work_dir)
    return work_dir
