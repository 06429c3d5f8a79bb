"""The CUDA toolkit that mmcv is compiled with: found, checked, completed.

A toolkit may be a compiler and little else: torch's own NVIDIA packages hold
the headers of the libraries, and the runtime, and are taken where it does not.
"""

import glob
import os
import re
import subprocess

from surroundings import find_nvcc, say, stop

# What torch's headers include of the toolkit, by the way of mmcv's files.
HEADERS = ('cuda_runtime_api.h', 'cublas_v2.h', 'cublasLt.h', 'cusparse.h', 'cusolverDn.h')
SYSTEM = ('/usr/include', '/usr/local/include')


def check_nvcc(torch_cuda):
    """Path of an nvcc of torch's CUDA; stops without one.

    Args:
        torch_cuda (str): ``torch.version.cuda``.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        stop(
            'a GPU is here but no nvcc, and mmcv has to be compiled for CUDA '
            f'{torch_cuda}; install that toolkit or set CUDA_HOME'
        )
    found = re.search(r'release (\d+)\.', _output(nvcc, '--version'))
    if not found:
        stop(f'{nvcc} --version tells no release; set CUDA_HOME to a toolkit {torch_cuda}')
    if found.group(1) != torch_cuda.split('.')[0]:
        stop(
            f'torch was built for CUDA {torch_cuda}, and {nvcc} is of CUDA {found.group(1)}; set CUDA_HOME'
            f' to a toolkit {torch_cuda}'
        )
    return nvcc


def _output(*command):
    """What a program prints, on either stream."""
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode()


def home_of(nvcc):
    """Folder of the toolkit of an nvcc.

    nvcc tells it: the one on PATH may be a script that calls another, and
    torch takes the folder above that script for the toolkit.
    """
    told = re.search(r'^#\$ TOP=(.+)$', _output(nvcc, '--dryrun', '-c', 'x.cu'), re.MULTILINE)
    return os.path.realpath(
        told.group(1) if told else os.path.dirname(os.path.dirname(os.path.realpath(nvcc)))
    )


def variables(nvcc, nvidia, folder):
    """Environment variables with which torch's build finds all it needs.

    Args:
        nvcc (str): from :func:`check_nvcc`.
        nvidia (str): folder of torch's NVIDIA packages, may be missing.
        folder (str): where a link to the runtime may be put.

    Returns:
        dict: CUDA_HOME, and CPATH and LIBRARY_PATH where they are needed.
    """
    home = home_of(nvcc)
    return dict(
        _path('CPATH', _headers(home, nvidia)),
        **_path('LIBRARY_PATH', _runtime(home, nvidia, folder)),
        CUDA_HOME=home,
    )


def _path(name, folders):
    """A search path variable with folders behind what the user has there."""
    given = os.environ.get(name)
    return {name: os.pathsep.join(([given] if given else []) + folders)} if folders else {}


def _headers(home, nvidia):
    """Include folders for the headers that a toolkit lacks."""
    places = [
        os.path.join(home, 'include'),
        *SYSTEM,
        *os.environ.get('CPATH', '').split(os.pathsep),
    ]
    folders, lacking = [], []
    for header in HEADERS:
        if any(os.path.exists(os.path.join(p, header)) for p in places):
            continue
        found = glob.glob(os.path.join(glob.escape(nvidia), '*', 'include', header))
        if not found:
            stop(
                f'{home} has no {header}, and no NVIDIA package of torch has it; '
                f'install the whole toolkit, or set CPATH to the folder of {header}'
            )
        lacking.append(header)
        folders.append(os.path.dirname(found[0]))
    folders = sorted(set(folders), key=folders.index)
    if folders:
        say(
            "{} has no {}: taken from torch's {}".format(
                home, ', '.join(lacking), ', '.join(folders)
            )
        )
    return folders


def _runtime(home, nvidia, folder):
    """A folder with ``libcudart.so`` where a toolkit has none to link with."""
    if any(
        glob.glob(os.path.join(glob.escape(place), 'libcudart.so'))
        or glob.glob(place + '/libcudart.so')
        for place in (
            home + '/lib64',
            home + '/lib',
            home + '/targets/*/lib',
            '/usr/lib/*-linux-gnu',
        )
    ):
        return []
    found = glob.glob(os.path.join(glob.escape(nvidia), '*', 'lib', 'libcudart.so.*'))
    if not found:
        stop(
            f'{home} has no libcudart.so, and no NVIDIA package of torch has it; '
            'install the whole toolkit'
        )
    link = os.path.join(folder, 'libcudart.so')
    if os.path.lexists(link):
        os.remove(link)
    os.symlink(found[0], link)
    say(f"{home} has no libcudart.so: taken from torch's {found[0]}")
    return [folder]
