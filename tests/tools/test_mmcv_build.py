"""mmcv's compilation: goes on where it was, and leaves a wheel or none."""

import collections
import importlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time

import pytest

# In place of pip: compiles a.cpp, and b.cpp unless it is told to break off.
PIP = """#!{python}
import json, os, sys, time
tree, out = sys.argv[-1], sys.argv[sys.argv.index('-w') + 1]
compiled = []
for name in ('a', 'b'):
    if os.path.exists(os.path.join(tree, name + '.o')):
        continue
    if name == 'b' and os.environ.get('BREAK_OFF') == 'error':
        print('[1/2] c++ a.cpp')
        print('b.cpp:7:1: fatal error: no_such.h: No such file or directory')
        sys.exit(1)
    if name == 'b' and os.environ.get('BREAK_OFF') == 'sleep':
        open(os.path.join(tree, 'asleep.%d' % os.getpid()), 'w').close()
        time.sleep(600)
    open(os.path.join(tree, name + '.o'), 'w').close()
    compiled.append(name)
os.makedirs(out, exist_ok=True)
names = ('CFLAGS', 'FORCE_CUDA', 'MAX_JOBS', 'TORCH_CUDA_ARCH_LIST')
with open(os.path.join(out, 'mmcv.whl'), 'w') as file:
    json.dump([compiled, [os.environ.get(name) for name in names]], file)
"""


@pytest.fixture
def mmcv_build(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / 'tools' / 'install'))
    for name in ('BREAK_OFF', 'CFLAGS', 'MAX_JOBS', 'TORCH_CUDA_ARCH_LIST'):
        monkeypatch.delenv(name, raising=False)
    return importlib.import_module('mmcv_build')


@pytest.fixture
def env(tmp_path):
    python = tmp_path / 'env' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text(PIP.format(python=sys.executable))
    python.chmod(0o755)
    return collections.namedtuple('Env', 'python')(str(python))


@pytest.fixture
def source(tmp_path):
    """A source package."""
    (tmp_path / 'mmcv-2.3.6').mkdir()
    (tmp_path / 'mmcv-2.3.6' / 'a.cpp').write_text('')
    with tarfile.open(tmp_path / 'mmcv-2.3.6.tar.gz', 'w:gz') as file:
        file.add(tmp_path / 'mmcv-2.3.6', 'mmcv-2.3.6')
    return str(tmp_path / 'mmcv-2.3.6.tar.gz')


@pytest.fixture
def folder(tmp_path):
    return tmp_path / 'cache' / 'mmcv-torch'


def read(wheel):
    with open(wheel) as file:
        return json.load(file)


def break_off(mmcv_build, env, folder, source, monkeypatch):
    monkeypatch.setenv('BREAK_OFF', 'error')
    with pytest.raises(SystemExit) as stopped:
        mmcv_build.build(env, str(folder), source)
    monkeypatch.delenv('BREAK_OFF')
    return str(stopped.value)


def test_the_wheel_is_kept_and_the_rest_is_not(mmcv_build, env, folder, source):
    wheel = mmcv_build.build(env, str(folder), source)
    assert wheel == str(folder / 'mmcv.whl')
    assert read(wheel)[0] == ['a', 'b']
    assert sorted(os.listdir(folder)) == ['build.log', 'lock', 'mmcv.whl']


def test_a_failure_tells_the_compiler_s_complaint(mmcv_build, env, folder, source, monkeypatch):
    said = break_off(mmcv_build, env, folder, source, monkeypatch)
    assert 'did not compile: b.cpp:7:1: fatal error: no_such.h' in said
    assert said.endswith(str(folder / 'build.log'))
    assert len(said.splitlines()) == 1
    assert mmcv_build._progress(folder / 'build.log') == ', file 1 of 2'


def test_it_goes_on_where_it_was(mmcv_build, env, folder, source, monkeypatch, capsys):
    break_off(mmcv_build, env, folder, source, monkeypatch)
    assert not list(folder.glob('*.whl'))
    wheel = mmcv_build.build(env, str(folder), source)
    assert read(wheel)[0] == ['b']
    assert 'going on with the compilation' in capsys.readouterr().out


def test_it_starts_anew_with_another_compiler(
    mmcv_build, env, folder, source, monkeypatch, tmp_path
):
    break_off(mmcv_build, env, folder, source, monkeypatch)
    other = tmp_path / 'other-c++'
    other.write_text('#!/bin/sh\necho other 99.0\n')
    other.chmod(0o755)
    monkeypatch.setenv('CXX', str(other))
    wheel = mmcv_build.build(env, str(folder), source)
    assert read(wheel)[0] == ['a', 'b']


def wait_for(pattern, folder):
    for _ in range(600):
        found = list(folder.glob(pattern))
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f'no {pattern} in {folder}')


def runs(pid):
    """Whether a process is there, and more than its parent's memory of it."""
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def test_the_end_of_make_ends_the_compilation(mmcv_build, env, folder, source, repo):
    """And leaves what is compiled, to go on with."""
    call = (
        'import sys; sys.path.insert(0, sys.argv[1]); import collections, '
        'mmcv_build; env = collections.namedtuple("E", "python")'
        '(sys.argv[2]); mmcv_build.build(env, *sys.argv[3:])'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', call, repo / 'tools' / 'install', env.python, folder, source],
        env=dict(os.environ, BREAK_OFF='sleep'),
    )
    pid = int(wait_for('source/asleep.*', folder).suffix[1:])
    assert runs(pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert not runs(pid)
    assert read(mmcv_build.build(env, str(folder), source))[0] == ['b']


def test_one_that_waited_takes_the_wheel_of_the_other(mmcv_build, env, folder, source):
    folder.mkdir(parents=True)
    (folder / 'mmcv.whl').write_text('of the other')
    wheel = mmcv_build.build(env, str(folder), source)
    with open(wheel) as file:
        assert file.read() == 'of the other'


def test_the_variables_of_a_cpu_build(mmcv_build, env, folder, source):
    flags, cuda, jobs, archs = read(mmcv_build.build(env, str(folder), source))[1]
    assert (flags, cuda, archs) == ('-g0', '0', None)
    assert 1 <= int(jobs) <= os.cpu_count()


def test_the_variables_of_a_cuda_build(mmcv_build, env, folder, monkeypatch):
    monkeypatch.setenv('MAX_JOBS', '3')
    monkeypatch.setenv('CFLAGS', '-O1')
    monkeypatch.setattr(
        mmcv_build.toolkit, 'variables', lambda *given: dict(CUDA_HOME='/'.join(given))
    )
    asking = collections.namedtuple('Env', 'python ask')(env.python, lambda code: 'nvidia')
    found = mmcv_build.build_variables(asking, 'folder', 'nvcc', '8.0;9.0')
    assert found['FORCE_CUDA'] == found['MMCV_WITH_OPS'] == '1'
    assert found['TORCH_CUDA_ARCH_LIST'] == '8.0;9.0'
    assert found['MAX_JOBS'] == '3'
    assert found['CFLAGS'] == '-O1 -g0'
    assert found['CUDA_HOME'] == 'nvcc/nvidia/folder'
    assert found['PATH'].startswith(os.path.dirname(env.python) + os.pathsep)


def test_few_jobs_where_memory_is_little(mmcv_build, monkeypatch):
    pages = dict(SC_PAGE_SIZE=1000, SC_PHYS_PAGES=5_000_000)  # 5 GB
    monkeypatch.setattr(os, 'sysconf', pages.get)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(64)))
    assert mmcv_build.jobs() == 2
