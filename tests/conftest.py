"""Marks and places that tests share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.toy_data import tiny_rfcn_run

if not torch.cuda.is_available():
    # Read where Triton is imported: kernels are run by its interpreter then.
    os.environ['TRITON_INTERPRET'] = '1'


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if 'gpu' in item.keywords:
            item.add_marker(pytest.mark.skip(reason='needs a CUDA device'))


@pytest.fixture(scope='session')
def repo() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def tool(repo):
    """Run a tool in a process of its own; returns what it printed."""

    def run(*command, check=True, **variables):
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', *map(str, command)],
            cwd=repo,
            capture_output=True,
            text=True,
            env=dict(os.environ, **variables),
        )
        if check:
            assert done.returncode == 0, done.stderr[-3000:]
        return done

    return run


@pytest.fixture(scope='session')
def digits(tool, tmp_path_factory):
    """Digits in clutter, 16 + 8 images."""
    out = tmp_path_factory.mktemp('digits')
    tool('tools/dataset_converters/make_digits.py', '--out', out, '--train', '16', '--val', '8')
    return out


@pytest.fixture(scope='session')
def config(repo, digits, tmp_path_factory):
    """A config of 8 iterations on them."""
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    tiny_rfcn_run(repo / 'configs', digits).dump(path)
    return path


@pytest.fixture
def cards() -> Path:
    """Real photographs in VOC layout, for trials; not part of the product."""
    root = Path(os.environ.get('MMGWAP_TRIAL_DATA', '')) / 'cards'
    if not os.environ.get('MMGWAP_TRIAL_DATA') or not root.is_dir():
        pytest.skip('set MMGWAP_TRIAL_DATA to a folder that holds cards/')
    return root
