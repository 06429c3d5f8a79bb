"""A tiny run of the command-line tools, made once."""
import os
import subprocess
import sys

import pytest

from mmgwap.testing import tiny_rfcn_run


@pytest.fixture(scope='session')
def tool(repo):
    """Run a tool in a process of its own; returns what it printed."""
    def run(*command, check=True, **variables):
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', *map(str, command)], cwd=repo,
            capture_output=True, text=True,
            env=dict(os.environ, **variables))
        if check:
            assert done.returncode == 0, done.stderr[-3000:]
        return done
    return run


@pytest.fixture(scope='session')
def digits(tool, tmp_path_factory):
    """Digits in clutter, 16 + 8 images."""
    out = tmp_path_factory.mktemp('digits')
    tool('tools/dataset_converters/make_digits.py', '--out', out, '--train',
         '16', '--val', '8')
    return out


@pytest.fixture(scope='session')
def single(tool, tmp_path_factory):
    """Digits in clutter, one an image, 16 + 7 images."""
    out = tmp_path_factory.mktemp('single')
    tool('tools/dataset_converters/make_digits.py', '--single', '--out', out,
         '--train', '16', '--val', '7')
    return out


@pytest.fixture(scope='session')
def config(repo, digits, tmp_path_factory):
    """A config of 8 iterations on them."""
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    tiny_rfcn_run(repo / 'configs', digits).dump(path)
    return path


@pytest.fixture(scope='session')
def trained(tool, config, tmp_path_factory):
    """The work directory of that run."""
    work_dir = tmp_path_factory.mktemp('run')
    tool('tools/train.py', config, '--work-dir', work_dir)
    return work_dir
