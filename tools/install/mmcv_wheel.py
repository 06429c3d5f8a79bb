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

from surroundings import say, stop

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
    cuda = _cuda_to_build(torch_cuda) if has_gpu else 'cpu'
    name = folder_name(env.stack, torch, cuda)
    for root in (cache_folder(), env.wheels):
        found = glob.glob(os.path.join(glob.escape(root), glob.escape(name),
                                       '*.whl'))
        if found:
            say('taking mmcv from {}'.format(found[0]))
            return found[0]
    return _compile(env, os.path.join(cache_folder(), name), cuda)


def save(env, folder):
    """Copy the compiled wheel, under its telling name, to ``folder``."""
    wheel = get(env)
    target = os.path.join(folder, os.path.basename(os.path.dirname(wheel)))
    os.makedirs(target, exist_ok=True)
    shutil.copy(wheel, target)


def _cuda_to_build(torch_cuda):
    """'cu130' ..., where nvcc and torch agree."""
    home = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH')
    nvcc = os.path.join(home, 'bin', 'nvcc') if home else \
        shutil.which('nvcc')
    try:
        text = subprocess.check_output([nvcc or 'nvcc', '--version'])
    except (OSError, subprocess.CalledProcessError):
        stop('a GPU is here but no nvcc, and mmcv needs it; install the CUDA '
             'toolkit {}, or hide the GPU: CUDA_VISIBLE_DEVICES= make install'
             .format(torch_cuda))
    version = re.search(r'release (\d+)\.', text.decode()).group(1)
    if version != torch_cuda.split('.')[0]:
        stop('torch was built for CUDA {}, and {} is of CUDA {}; set CUDA_HOME'
             ' to a toolkit {}'.format(torch_cuda, nvcc, version, torch_cuda))
    return 'cu' + torch_cuda.replace('.', '')


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
