"""mmcv's source: fetched, and unpacked where it is compiled."""

import glob
import json
import os
import shutil
import subprocess
import tarfile
import tempfile

from surroundings import say


def prepare(env, folder, tree, source, variables):
    """Unpack the source, unless it is there and compiled by these compilers.

    ninja sees other files and other options by itself, but no other compiler
    of the same name.

    Args:
        env (MarkedVenv): whose pip downloads it.
        folder (str): of ``tree``, the unpacked source.
        source (str | tuple): path of the source package, or name and version.
        variables (dict): environment variables of the compilation.
    """
    compilers = [compiler_version(variables.get('CXX', 'c++'))] + (
        [compiler_version(os.path.join(variables['CUDA_HOME'], 'bin', 'nvcc'))]
        if 'CUDA_HOME' in variables
        else []
    )
    mark = os.path.join(tree, 'mmgwap-compilers.json')
    if os.path.isdir(tree):
        if _read(mark) == compilers:
            say(f'going on with the compilation in {tree}')
            return
        shutil.rmtree(tree)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        if not isinstance(source, str):
            source = download(env, *source, work)
        unpacked = _unpack(source, work)
        with open(os.path.join(unpacked, os.path.basename(mark)), 'w') as file:
            json.dump(compilers, file)
        os.rename(unpacked, tree)


def _read(mark):
    try:
        with open(mark) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def compiler_version(compiler):
    """What tells one compiler from another."""
    done = subprocess.run(
        compiler.split() + ['--version'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return done.stdout.decode()


def _unpack(archive, folder):
    """Unpack a source package; returns the folder that was in it."""
    with tarfile.open(archive) as file:
        # Python before 3.11.4 can't be asked for it.
        safe = dict(filter='data') if hasattr(tarfile, 'data_filter') else {}
        file.extractall(os.path.join(folder, 'unpacked'), **safe)
    return glob.glob(os.path.join(glob.escape(folder), 'unpacked', '*'))[0]


def download(env, name, version, folder):
    """Fetch mmcv's source package into ``folder``; returns its path."""
    env.pip(
        'download',
        '-d',
        folder,
        '--no-deps',
        '--no-binary',
        name,
        '--no-build-isolation',
        name + '==' + version,
    )
    return glob.glob(
        os.path.join(glob.escape(folder), '{}-{}.tar.gz'.format(name.replace('-', '[-_]'), version))
    )[0]
