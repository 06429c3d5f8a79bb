"""What a machine must have, checked before minutes are spent on it.

Runs under any Python 3, to be able to say that it is the wrong one.
"""
import os
import shutil
import subprocess
import sys
import sysconfig

PYTHONS = ((3, 11), (3, 12))
DISK_GB = 4
DISK_GB_CUDA = 14  # CUDA builds of torch bring their libraries along


def say(message):
    """Print at once, also into a pipe."""
    print(message, flush=True)


def stop(message):
    """End with one line."""
    sys.exit('make install: ' + message)


def check_python():
    """Stop under a Python that the pinned packages have no wheels for."""
    if sys.version_info[:2] not in PYTHONS:
        stop('Python {}.{} at {} is not supported; use {}: make install '
             'PYTHON=python{}.{}'.format(
                 sys.version_info[0], sys.version_info[1], sys.executable,
                 ' or '.join('{}.{}'.format(*p) for p in PYTHONS),
                 *PYTHONS[0]))


def check(venv, mmcv_at_hand):
    """Stop where the installation is bound to fail.

    Args:
        venv (str): absolute path of the environment to be made.
        mmcv_at_hand (bool): whether a compiled mmcv is there already.
    """
    _check_venv_module()
    _check_disk(os.path.dirname(venv))
    if not mmcv_at_hand:
        _check_compiler()


def _check_venv_module():
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        stop('{} has no venv module; on Debian and Ubuntu: apt install '
             'python{}.{}-venv'.format(sys.executable, *sys.version_info[:2]))


def _check_disk(folder):
    need = DISK_GB_CUDA if has_gpu() else DISK_GB
    free = shutil.disk_usage(folder).free / 1e9
    if free < need:
        stop('{} has {:.1f} GB free, and about {} GB are needed'.format(
            folder, free, need))


def _check_compiler():
    compiler = os.environ.get('CXX') or 'c++'
    program = compiler.split()[-1] if compiler.startswith('ccache') \
        else compiler.split()[0]
    if shutil.which(program) is None:
        stop('no C++ compiler ({}), and mmcv has to be compiled; on Debian '
             'and Ubuntu: apt install g++'.format(program))
    header = os.path.join(sysconfig.get_paths()['include'], 'Python.h')
    if not os.path.exists(header):
        stop('{} is missing, and mmcv has to be compiled; on Debian and '
             'Ubuntu: apt install python{}.{}-dev'.format(
                 header, *sys.version_info[:2]))


def has_gpu():
    """Whether an NVIDIA driver answers."""
    try:
        return subprocess.call(
            ['nvidia-smi', '-L'], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False
