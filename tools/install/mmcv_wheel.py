"""mmcv's wheel: compiled once for each torch, and kept.

A wheel's own name does not tell which torch and CUDA it was compiled for, and
under another it fails at import or crashes; the folder that keeps it does.
"""

import glob
import os
import platform
import re
import shutil
import sys

import mmcv_build
import mmcv_source
import toolkit
from surroundings import check_compiler, say, stop

VERSIONS = dict(onedl=('onedl-mmcv', '2.3.6'), openmmlab=('mmcv', '2.1.0'))
ASK_TORCH = (
    'import json, torch; print(json.dumps([torch.__version__, '
    'torch.version.cuda, torch.cuda.is_available()]))'
)


def cache_folder():
    """The user's cache folder for compiled wheels."""
    base = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    return os.path.join(base, 'mmgwap', 'wheels')


def folder_name(stack, torch, cuda, archs=''):
    """Name that holds all that a compiled mmcv depends on.

    Args:
        torch (str): ``torch.__version__``, or a pattern.
        cuda (str): 'cpu', 'cu130' ..., or a pattern.
        archs (str): as in TORCH_CUDA_ARCH_LIST, '8.0;9.0+PTX'; '' for those
            that torch chooses.
    """
    name, version = VERSIONS[stack]
    chips = ''.join(
        '-sm' + re.sub(r'\W', '', arch).lower() for arch in re.split(r'[; ]+', archs) if arch
    )
    return f'{name}-{version}-torch{torch}-{cuda}{chips}-cp{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}'


def is_at_hand(stack, torch, wheels):
    """Whether some compiled wheel is there, before torch is installed."""
    name = folder_name(stack, torch + '*', '*')
    return any(
        glob.glob(os.path.join(glob.escape(root), name, '*.whl'))
        for root in (cache_folder(), wheels)
        if root
    )


def find(name, wheels):
    """Path of the wheel in the folder of that name, or None.

    Args:
        name (str): from :func:`folder_name`.
        wheels (str): a wheel folder, which serves like the cache, or ''.
    """
    for root in (cache_folder(), wheels):
        found = glob.glob(os.path.join(glob.escape(root), glob.escape(name), '*.whl'))
        if found:
            return found[0]
    return None


def get(env, archs=''):
    """Path of the wheel for the torch in an environment; compiles if need be.

    Args:
        env (MarkedVenv): with torch and the build tools in it.
        archs (str): GPUs to compile for, whichever are there, as in
            TORCH_CUDA_ARCH_LIST; '' for those that are there, if any.
    """
    torch, torch_cuda, has_gpu = env.ask(ASK_TORCH)
    if not (has_gpu or archs):
        torch_cuda = None
    name = folder_name(env.stack, torch, cuda_name(torch_cuda), archs)
    wheel = find(name, env.wheels)
    if wheel:
        say(f'taking mmcv from {wheel}')
        return wheel
    nvcc, source = means(env.stack, name, torch_cuda, env.wheels)
    return mmcv_build.build(env, os.path.join(cache_folder(), name), source, nvcc, archs)


def cuda_name(torch_cuda):
    """'cu130' for CUDA 13.0, 'cpu' for None."""
    return 'cu' + torch_cuda.replace('.', '') if torch_cuda else 'cpu'


def means(stack, name, torch_cuda, wheels):
    """What mmcv is compiled with; stops where something is missing.

    Args:
        name (str): from :func:`folder_name`.
        torch_cuda (str, optional): of which the compiler has to be.
        wheels (str): folder that has to hold the source, or ''.

    Returns:
        tuple[str | None, str | tuple]: nvcc, and mmcv's source package or its
        name and version.
    """
    check_compiler()
    nvcc = toolkit.check_nvcc(torch_cuda) if torch_cuda else None
    if not wheels:
        return nvcc, VERSIONS[stack]
    source = glob.glob(
        os.path.join(
            glob.escape(wheels),
            '{}-{}.tar.gz'.format(VERSIONS[stack][0].replace('-', '[-_]'), VERSIONS[stack][1]),
        )
    )
    if not source:
        stop(
            f'{wheels} holds neither {name} nor the source of mmcv; fill it on a machine'
            ' like this one, or without WHEELS'
        )
    return nvcc, source[0]


def save(env, folder):
    """Copy the wheel, under its telling name, and the source to ``folder``."""
    wheel = get(env)
    target = os.path.join(folder, os.path.basename(os.path.dirname(wheel)))
    os.makedirs(target, exist_ok=True)
    shutil.copy(wheel, target)
    mmcv_source.download(env, *VERSIONS[env.stack], folder)
