"""The Python of this machine whose torch has CUDA, and what is beside it."""

import json
import os
import shutil
import subprocess
import sys
from typing import NamedTuple

from surroundings import stop

CANDIDATES = ('python3', 'python3.12', 'python3.11', 'python3.13', 'python')
FIRST_PYTHON = (3, 11)  # of the pinned packages
FIRST_TORCH = (2, 6)  # of mmgwap
HAS_CUDA_TORCH = 'import torch; assert torch.version.cuda'
# Run by the Python in question.  Of a package that is there twice the first
# on the path is the one that is imported.
PROBE = r"""
import importlib.metadata, importlib.util, json, os, sys, sysconfig, warnings
warnings.simplefilter('ignore')
known = dict(executable=sys.executable, prefix=sys.prefix, torch='', cuda='',
             version=list(sys.version_info[:3]), devices=[], why='', cv2=False)
try:
    import torch
except Exception as error:
    known['why'] = repr(error)
else:
    known.update(torch=torch.__version__, cuda=torch.version.cuda or '')
    try:
        torch.cuda.init()
        for i in range(torch.cuda.device_count()):
            known['devices'].append([torch.cuda.get_device_name(i),
                                     *torch.cuda.get_device_capability(i)])
    except Exception as error:
        known['why'] = str(error)
try:
    import cv2
    known['cv2'] = hasattr(cv2, 'imread')
except Exception:
    pass
known['pip'] = importlib.util.find_spec('pip') is not None
known['ensurepip'] = importlib.util.find_spec('ensurepip') is not None
stdlib = {os.path.realpath(sysconfig.get_path(name))
          for name in ('stdlib', 'platstdlib')}
stdlib |= {os.path.join(path, 'lib-dynload') for path in stdlib}
known['paths'] = [path for path in sys.path if path and os.path.isdir(path)
                  and os.path.realpath(path) not in stdlib]
known['packages'] = {}
for found in importlib.metadata.distributions():
    if found.metadata['Name']:
        known['packages'].setdefault(found.metadata['Name'], found.version)
print()
print(json.dumps(known))
"""


class Local(NamedTuple):
    """What :data:`PROBE` tells.

    ``devices`` are of name, major and minor compute capability; ``why`` says
    why there are none; ``paths`` are where packages are imported from;
    ``cv2`` tells whether OpenCV imports, in whichever distribution.
    """

    executable: str
    prefix: str
    version: list
    torch: str
    cuda: str
    devices: list
    why: str
    cv2: bool
    pip: bool
    ensurepip: bool
    paths: list
    packages: dict

    @property
    def archs(self):
        """Of the GPUs that are there, as TORCH_CUDA_ARCH_LIST: '8.0;9.0'."""
        return ';'.join(
            '{}.{}'.format(*chip) for chip in sorted({tuple(device[1:]) for device in self.devices})
        )


def choose(wanted):
    """Path or name of the Python to use: the first whose torch has CUDA.

    Args:
        wanted (str): the user's choice, or '' to look for one.
    """
    if wanted:
        if not shutil.which(wanted):
            stop(f'no CUDA device can be used: PYTHON={wanted} is no program')
        return wanted
    there = [name for name in CANDIDATES if shutil.which(name)]
    for name in there:
        if (
            subprocess.call(
                [name, '-c', HAS_CUDA_TORCH], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            == 0
        ):
            return name
    stop(
        'no CUDA device can be used: of {} none has a torch with CUDA; name '
        'the Python that has it: make gpu-check PYTHON=path'.format(', '.join(there))
    )


def run_by(python):
    """Go on under that Python: most of what follows asks about its own."""
    ask = 'import sys; print(sys.prefix); print(sys.executable)'
    try:
        prefix, executable = subprocess.check_output([python, '-c', ask]).decode().split('\n')[:2]
    except (OSError, subprocess.CalledProcessError, ValueError):
        stop(f'no CUDA device can be used: PYTHON={python} does not run')
    if prefix != sys.prefix:
        sys.stdout.flush()
        os.execv(
            executable,
            [
                executable,
                os.path.dirname(os.path.abspath(__file__)),
                *sys.argv[1:],
                '--python',
                executable,
            ],
        )


def probe(python=sys.executable):
    """Ask a Python for all that decides what has to be done."""
    done = subprocess.run([python, '-c', PROBE], stdout=subprocess.PIPE)
    try:
        return Local(**json.loads(done.stdout.decode().splitlines()[-1]))
    except (ValueError, IndexError):
        stop(
            f'no CUDA device can be used: {python} ended with status {done.returncode} when asked '
            'for its torch; what it said stands above'
        )


def check(local, needs_device=True):
    """Stop, with one line, where the check can't be made.

    Args:
        needs_device (bool): False to compile for a GPU of another machine.
    """
    if tuple(local.version[:2]) < FIRST_PYTHON:
        stop(
            '{} is Python {}.{}, and the pinned packages need {}.{} or later;'
            ' name another: make gpu-check PYTHON=path'.format(
                local.executable, *local.version[:2], *FIRST_PYTHON
            )
        )
    if not local.cuda:
        stop(
            'no CUDA device can be used: {} of {}; name the Python whose '
            'torch has CUDA: make gpu-check PYTHON=path'.format(
                f'torch {local.torch} is a build without CUDA, that'
                if local.torch
                else f'no torch ({local.why})',
                local.executable,
            )
        )
    if _numbers(local.torch) < FIRST_TORCH:
        stop(
            'torch {} of {} is too old: mmgwap needs {}.{} or later'.format(
                local.torch, local.executable, *FIRST_TORCH
            )
        )
    if not (local.pip or local.ensurepip):
        stop(
            '{} has neither pip nor ensurepip; on Debian and Ubuntu: apt '
            'install python{}.{}-venv'.format(local.executable, *local.version[:2])
        )
    if needs_device and not local.devices:
        stop(
            'no CUDA device: torch {} of {} sees none ({})'.format(
                local.torch,
                local.executable,
                ' '.join(local.why.split('\n')[:1]) or 'nvidia-smi may tell why',
            )
        )


def _numbers(version):
    return tuple(int(part) for part in version.split('.')[:2])
