"""The compilation of mmcv, which goes on where it was broken off.

The source is unpacked into the folder that will keep the wheel, and compiled
there: ninja compiles only what is not compiled yet.  The wheel is moved into
its place at the end, so that it is there whole or not at all.
"""

import fcntl
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import mmcv_source
import toolkit
from surroundings import say, stop

ASK_NVIDIA = (
    'import json, os, torch; print(json.dumps(os.path.join('
    'os.path.dirname(os.path.dirname(torch.__file__)), "nvidia")))'
)
SIGN_OF_LIFE = 60  # seconds


def build(env, folder, source, nvcc=None, archs=''):
    """Compile mmcv and keep the wheel in ``folder``.

    Args:
        env (MarkedVenv): with torch and the build tools in it.
        folder (str): made if missing; a part that is compiled is there still
            after an interruption.
        source (str | tuple): path of the source package, or name and version
            to download it.
        nvcc (str, optional): compiler for CUDA; without, for the CPU alone.
        archs (str): as in TORCH_CUDA_ARCH_LIST, or '' for torch's choice.

    Returns:
        str: path of the wheel.
    """
    os.makedirs(folder, exist_ok=True)
    with _locked(folder) as lock:
        # Perhaps the one that was waited for has made it.
        return _wheel_in(folder) or _build(env, folder, source, nvcc, archs, lock)


@contextmanager
def _locked(folder):
    """Let one compilation at a time work in the folder."""
    with open(os.path.join(folder, 'lock'), 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(f'waiting for another compilation in {folder}')
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _wheel_in(folder):
    found = glob.glob(os.path.join(glob.escape(folder), '*.whl'))
    return found[0] if found else None


def _build(env, folder, source, nvcc, archs, lock):
    tree, out, log = (os.path.join(folder, name) for name in ('source', 'out', 'build.log'))
    variables = build_variables(env, folder, nvcc, archs)
    mmcv_source.prepare(env, folder, tree, source, variables)
    say(
        'compiling mmcv for {} (8 to 15 minutes on two cores, for one kind of '
        'GPU twice that, and only once; a broken-off one goes on where it was)'
        '; log: {}'.format('CUDA' if nvcc else 'cpu', log)
    )
    command = [
        env.python,
        '-m',
        'pip',
        'wheel',
        '-v',
        '--no-deps',
        '--no-build-isolation',
        '--no-cache-dir',
        '--no-index',
        '-w',
        out,
        tree,
    ]
    code = _run(command, variables, log, lock)
    built = _wheel_in(out)
    if code != 0 or not built:
        stop(f'mmcv did not compile{_first_error(log)}; see {log}')
    wheel = os.path.join(folder, os.path.basename(built))
    os.replace(built, wheel)
    shutil.rmtree(out)
    shutil.rmtree(tree)
    return wheel


def build_variables(env, folder, nvcc, archs):
    """Environment variables of the compilation."""
    variables = dict(
        os.environ,
        MMCV_WITH_OPS='1',
        FORCE_CUDA=str(int(bool(nvcc))),
        MAX_JOBS=os.environ.get('MAX_JOBS', str(jobs())),
        # Without debugging information, which Python's own flags ask for and
        # which makes the wheel four times as large.
        CFLAGS=(os.environ.get('CFLAGS', '') + ' -g0').strip(),
        PATH=os.path.dirname(env.python) + os.pathsep + os.environ['PATH'],
    )
    if nvcc:
        variables.update(toolkit.variables(nvcc, env.ask(ASK_NVIDIA), folder))
    if archs:
        variables['TORCH_CUDA_ARCH_LIST'] = archs
    return variables


def jobs():
    """Compilers at once: one a core, and 2 GB of memory for each."""
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2e9
    return max(1, min(len(os.sched_getaffinity(0)), int(memory)))


def _run(command, variables, log, lock):
    """Run the compilation to its end; returns its exit code.

    It keeps the lock if this process is killed, and is stopped with it
    otherwise.
    """
    with open(log, 'w') as file:
        process = subprocess.Popen(
            command,
            env=variables,
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            pass_fds=(lock.fileno(),),
            process_group=0,
        )
    # make passes on the signal that ends it, and Python would end at once.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return _wait(process, log)
    finally:
        signal.signal(signal.SIGTERM, before)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _wait(process, log):
    """Wait, with a sign of life every minute."""
    start = time.time()
    while True:
        try:
            return process.wait(timeout=SIGN_OF_LIFE)
        except subprocess.TimeoutExpired:
            say(f'  still compiling, {(time.time() - start) / 60:.0f} min{_progress(log)}')


def _progress(log):
    """', file 12 of 138', as ninja writes it into the log."""
    with open(log, errors='replace') as file:
        steps = re.findall(r'^\s*\[(\d+)/(\d+)\]', file.read(), re.MULTILINE)
    return ', file {} of {}'.format(*steps[-1]) if steps else ''


def _first_error(log):
    """The compiler's first complaint, ': ...', if there is one."""
    with open(log, errors='replace') as file:
        for line in file:
            if re.search(r'\b(fatal )?error\b ?:|unsupported GNU version', line):
                return ': ' + line.strip()[:300]
    return ''
