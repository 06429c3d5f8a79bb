"""mmcv's wheel: compiled once for each torch, and kept.

A wheel's own name does not tell which torch and CUDA it was compiled for, and
under another it fails at import or crashes; the folder that keeps it does.
"""
import glob
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

from surroundings import check_compiler, find_nvcc, say, stop

VERSIONS = dict(onedl=('onedl-mmcv', '2.3.6'), openmmlab=('mmcv', '2.1.0'))
ASK_TORCH = ('import json, torch; print(json.dumps([torch.__version__, '
             'torch.version.cuda, torch.cuda.is_available()]))')


def cache_folder():
    """The user's cache folder for compiled wheels."""
    base = os.environ.get('XDG_CACHE_HOME') or os.path.join(
        os.path.expanduser('~'), '.cache')
    return os.path.join(base, 'mmgwap', 'wheels')


def folder_name(stack, torch, cuda):
    """Name that holds all that a compiled mmcv depends on.

    Args:
        torch (str): ``torch.__version__``, or a pattern.
        cuda (str): 'cpu', 'cu130' ..., or a pattern.
    """
    name, version = VERSIONS[stack]
    return '{}-{}-torch{}-{}-cp{}{}-{}'.format(
        name, version, torch, cuda, sys.version_info[0], sys.version_info[1],
        platform.machine())


def is_at_hand(stack, torch, wheels):
    """Whether some compiled wheel is there, before torch is installed."""
    name = folder_name(stack, torch + '*', '*')
    return any(glob.glob(os.path.join(glob.escape(root), name, '*.whl'))
               for root in (cache_folder(), wheels) if root)


def get(env):
    """Path of the wheel for the torch in an environment; compiles if need be.

    Args:
        env (Environment): with torch and the build tools installed.
    """
    torch, torch_cuda, has_gpu = env.ask(ASK_TORCH)
    cuda = 'cu' + torch_cuda.replace('.', '') if has_gpu and torch_cuda \
        else 'cpu'
    name = folder_name(env.stack, torch, cuda)
    for root in (cache_folder(), env.wheels):
        found = glob.glob(os.path.join(glob.escape(root), glob.escape(name),
                                       '*.whl'))
        if found:
            say('taking mmcv from {}'.format(found[0]))
            return found[0]
    check_compiler()
    if cuda != 'cpu':
        _check_nvcc(torch_cuda)
    if env.wheels and not _find_source(env):
        stop('{} holds neither {} nor the source of mmcv; fill it on a machine'
             ' like this one, or without WHEELS'.format(env.wheels, name))
    return _compile(env, os.path.join(cache_folder(), name), cuda)


def _find_source(env):
    """mmcv's source package in the wheel folder."""
    name, version = VERSIONS[env.stack]
    return glob.glob(os.path.join(
        glob.escape(env.wheels), '{}-{}.tar.gz'.format(
            name.replace('-', '[-_]'), version)))


def save(env, folder):
    """Copy the wheel, under its telling name, and the source to ``folder``."""
    wheel = get(env)
    target = os.path.join(folder, os.path.basename(os.path.dirname(wheel)))
    os.makedirs(target, exist_ok=True)
    shutil.copy(wheel, target)
    name, version = VERSIONS[env.stack]
    env.pip('download', '-d', folder, '--no-deps', '--no-binary', name,
            '--no-build-isolation', name + '==' + version)


def _check_nvcc(torch_cuda):
    """Stop unless there is an nvcc of torch's CUDA."""
    nvcc = find_nvcc()
    if nvcc is None:
        stop('a GPU is here but no nvcc, and mmcv has to be compiled for CUDA '
             '{}; install that toolkit or set CUDA_HOME'.format(torch_cuda))
    text = subprocess.check_output([nvcc, '--version']).decode()
    version = re.search(r'release (\d+)\.', text).group(1)
    if version != torch_cuda.split('.')[0]:
        stop('torch was built for CUDA {}, and {} is of CUDA {}; set CUDA_HOME'
             ' to a toolkit {}'.format(torch_cuda, nvcc, version, torch_cuda))


def _compile(env, folder, cuda):
    """Compile mmcv and keep the wheel in ``folder``; returns its path."""
    name, version = VERSIONS[env.stack]
    os.makedirs(folder, exist_ok=True)
    log = os.path.join(folder, 'build.log')
    say('compiling mmcv {} for {} (8 to 15 minutes on two cores, and only '
        'once); log: {}'.format(version, cuda, log))
    variables = dict(
        os.environ, MMCV_WITH_OPS='1', FORCE_CUDA=str(int(cuda != 'cpu')),
        MAX_JOBS=os.environ.get('MAX_JOBS', str(_jobs())),
        PATH=os.path.dirname(env.python) + os.pathsep + os.environ['PATH'])
    source = ['--no-index', '--find-links', env.wheels] if env.wheels else []
    # Next to where the wheel will be: the move at the end is atomic, so that
    # an interrupted build leaves no wheel.
    with tempfile.TemporaryDirectory(dir=folder) as work:
        command = [env.python, '-m', 'pip', 'wheel', '-v', '--no-deps',
                   '--no-build-isolation', '--no-cache-dir', '--no-binary',
                   name, '-w', work] + source + [name + '==' + version]
        with open(log, 'w') as file:
            process = subprocess.Popen(command, env=variables, stdout=file,
                                       stderr=subprocess.STDOUT)
            _wait(process)
        built = glob.glob(os.path.join(work, '*.whl'))
        if process.returncode != 0 or not built:
            stop('mmcv did not compile; see the end of {}'.format(log))
        wheel = os.path.join(folder, os.path.basename(built[0]))
        os.replace(built[0], wheel)
    return wheel


def _wait(process):
    """Wait, with a sign of life every minute."""
    start = time.time()
    while True:
        try:
            process.wait(timeout=60)
            return
        except subprocess.TimeoutExpired:
            say('  still compiling, {:.0f} min'.format(
                (time.time() - start) / 60))


def _jobs():
    """Compilers at once: one a core, and 2 GB of memory for each."""
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2e9
    return max(1, min(os.cpu_count() or 1, int(memory)))
