"""Data and a tiny training for the tests of the command-line tools."""

import os
import subprocess
import sys

import pytest

from tests.processes import free_port


@pytest.fixture(scope='session')
def single(tool, tmp_path_factory):
    """Folder of images with one digit each, 16 for training and 7 for validation."""
    out = tmp_path_factory.mktemp('single')
    options = '--single --train 16 --val 7'.split()
    tool('tools/dataset_converters/make_digits.py', '--out', out, *options)
    return out


@pytest.fixture(scope='session')
def run_script(repo):
    """Function that runs a shell script of tools/ and returns its whole output."""

    def run(script, *args, **variables):
        variables = dict(PYTHON=sys.executable, PORT=str(free_port()), **variables)
        done = subprocess.run(
            [f'tools/{script}', *map(str, args)],
            cwd=repo,
            capture_output=True,
            text=True,
            env=dict(os.environ, **variables),
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope='session')
def trained(tool, config, tmp_path_factory):
    """Work directory of a training of ``config``."""
    work_dir = tmp_path_factory.mktemp('run')
    tool('tools/train.py', config, '--work-dir', work_dir)
    return work_dir
