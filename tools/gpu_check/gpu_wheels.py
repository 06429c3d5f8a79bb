"""A folder of wheels for a machine that has torch, a GPU and no network."""

import glob
import os
import platform
import re
import subprocess
import sys
import tempfile

import local_python
import mmcv_source
import mmcv_wheel
import packages
from marked_venv import BUILD_TOOLS, MarkedVenv
from surroundings import check_venv_module, say, stop

# On PyPI as source alone; pure Python, so that a wheel made here serves all.
SOURCES = ('onedl-mmdetection',)
# Large, and on most machines where somebody works with torch: nine tenths of
# the folder.
COMMON = (
    'fonttools',
    'matplotlib',
    'networkx',
    'numpy',
    'onnx',
    'onnxruntime',
    'opencv-python-headless',
    'pillow',
    'scikit-image',
    'scikit-learn',
    'scipy',
    'sympy',
)
# Of Linux distributions since 2018; pip takes each name literally.
GLIBC = range(5, 29)
OLD_NAMES = ('manylinux2014', 'manylinux2010', 'manylinux1')


def save(stack, folder, python, slim):
    """Fill ``folder`` with wheels, and mmcv's source package.

    Args:
        stack (str): 'onedl' or 'openmmlab'.
        folder (str): made if missing.
        python (str): version that the wheels are for, '3.12'.
        slim (bool): leave out :data:`COMMON`.
    """
    if (
        not re.fullmatch(r'3\.\d+', python)
        or tuple(int(n) for n in python.split('.')) < local_python.FIRST_PYTHON
    ):
        stop('GPU_PYTHON={} is no version from {}.{} on'.format(python, *local_python.FIRST_PYTHON))
    check_venv_module()
    pins = packages.pins(stack)
    names = sorted(set(pins) - set(COMMON if slim else ()))
    os.makedirs(folder, exist_ok=True)
    say(f'fetching {len(names)} packages for Python {python} into {folder}')
    _download(folder, python, BUILD_TOOLS + [f'{n}=={pins[n]}' for n in names if n not in SOURCES])
    _build(folder, stack, [f'{n}=={pins[n]}' for n in names if n in SOURCES])
    _report(folder, slim)


def _download(folder, python, requirements):
    """Fetch wheels for a Python that may not be on this machine."""
    machine = platform.machine()
    platforms = [f'manylinux_2_{n}' for n in GLIBC]
    platforms += list(OLD_NAMES) + ['linux']
    options = [part for name in platforms for part in ('--platform', name + '_' + machine)]
    if (
        subprocess.call(
            [
                sys.executable,
                '-m',
                'pip',
                'download',
                '-q',
                '--disable-pip-version-check',
                '--no-deps',
                '--only-binary=:all:',
                '--implementation',
                'cp',
                '--python-version',
                python,
                '-d',
                folder,
            ]
            + options
            + requirements
        )
        != 0
    ):
        stop('could not fetch the wheels; what failed stands above')


def _build(folder, stack, requirements):
    """Make wheels of what is there as source, and fetch mmcv's source."""
    with tempfile.TemporaryDirectory() as work:
        # Without torch: to be told mmcv's name and version it isn't needed.
        venv = MarkedVenv(os.path.join(work, 'venv'), {}, '')
        venv.create()
        venv.pip('install', '--no-deps', *BUILD_TOOLS)
        if requirements:
            venv.pip('wheel', '-w', folder, '--no-deps', '--no-build-isolation', *requirements)
        mmcv_source.download(venv, *mmcv_wheel.VERSIONS[stack], folder)


def _report(folder, slim):
    sizes = {
        os.path.basename(path): os.path.getsize(path) / 2**20
        for path in glob.glob(os.path.join(glob.escape(folder), '*'))
    }
    say(
        '{} holds {} files, {:.0f} MiB; the largest: {}'.format(
            folder,
            len(sizes),
            sum(sizes.values()),
            ', '.join(
                '{} ({:.0f} MiB)'.format(name.split('-')[0], sizes[name])
                for name in sorted(sizes, key=sizes.get, reverse=True)[:5]
            ),
        )
    )
    if slim:
        say('left out, to be found on the other machine: ' + ', '.join(COMMON))
    say(f'there: make gpu-check WHEELS={folder}')
