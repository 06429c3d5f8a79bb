"""What a machine must have, checked before minutes are spent on it.

Runs under any Python 3, to be able to say that it is the wrong one.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile

PYTHONS = ((3, 11), (3, 12))
DISK_GB = 10  # PyPI's torch for Linux brings CUDA's libraries along
DISK_GB_CPU = 4
PROGRAM = 'make install'  # whose messages these are


def say(message):
    """Print at once, also into a pipe."""
    sys.stdout.write(message + '\n')
    sys.stdout.flush()


def stop(message):
    """End with one line."""
    sys.exit(PROGRAM + ': ' + message)


def check_python():
    """Stop under a Python that the pinned packages have no wheels for."""
    if sys.version_info[:2] not in PYTHONS:
        stop(
            'Python {}.{} at {} is not supported; use {}: make install PYTHON=python{}.{}'.format(
                sys.version_info[0],
                sys.version_info[1],
                sys.executable,
                ' or '.join('{}.{}'.format(*p) for p in PYTHONS),
                *PYTHONS[0],
            )
        )


def check(venv, mmcv_at_hand):
    """Stop where the installation is bound to fail.

    Args:
        venv (str): absolute path of the environment to be made.
        mmcv_at_hand (bool): whether a compiled mmcv is there already.
    """
    check_venv_module()
    check_disk(venv, DISK_GB_CPU if _wants_cpu_torch() else DISK_GB)
    check_disk(tempfile.gettempdir(), 2)
    if not mmcv_at_hand:
        check_compiler()
        if has_gpu() and find_nvcc() is None:
            stop(
                'a GPU is here but no nvcc, and mmcv has to be compiled for '
                'it; install the CUDA toolkit or set CUDA_HOME, or leave the '
                'GPU out: CUDA_VISIBLE_DEVICES= make install'
            )


def check_venv_module():
    """Stop where Debian has split the module off."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        stop(
            '{} has no venv module; on Debian and Ubuntu: apt install python{}.{}-venv'.format(
                sys.executable, *sys.version_info[:2]
            )
        )


def check_disk(path, need):
    """Stop where less than ``need`` GB are free."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    free = shutil.disk_usage(path).free / 1e9
    if free < need:
        stop(f'{path} has {free:.1f} GB free, and about {need} GB are needed')


def _wants_cpu_torch():
    """Whether pip is pointed at CPU builds, by the usual address."""
    return any(
        'whl/cpu' in os.environ.get(name, '') for name in ('PIP_INDEX_URL', 'PIP_EXTRA_INDEX_URL')
    )


def check_compiler():
    """Stop without a C++ compiler or Python's headers."""
    compiler = os.environ.get('CXX') or 'c++'
    program = compiler.split()[-1] if compiler.startswith('ccache') else compiler.split()[0]
    if shutil.which(program) is None:
        stop(
            f'no C++ compiler ({program}), and mmcv has to be compiled; on Debian '
            'and Ubuntu: apt install g++'
        )
    header = os.path.join(sysconfig.get_paths()['include'], 'Python.h')
    if not os.path.exists(header):
        stop(
            '{} is missing, and mmcv has to be compiled; on Debian and '
            'Ubuntu: apt install python{}.{}-dev'.format(header, *sys.version_info[:2])
        )


def has_gpu():
    """Whether an NVIDIA driver answers, and the user has not hidden it."""
    if os.environ.get('CUDA_VISIBLE_DEVICES') == '':
        return False
    try:
        return (
            subprocess.call(
                ['nvidia-smi', '-L'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            == 0
        )
    except OSError:
        return False


def find_nvcc():
    """Path of nvcc where torch's build system looks for it, or None."""
    home = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH')
    places = (
        [os.path.join(home, 'bin')] if home else [os.environ.get('PATH', ''), '/usr/local/cuda/bin']
    )
    return shutil.which('nvcc', path=os.pathsep.join(places))
