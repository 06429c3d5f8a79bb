"""The installer: one line for bad surroundings, and no wheel mix-up."""

import collections
import importlib
import json
import os
import shutil
import subprocess
import sys

import pytest


@pytest.fixture
def install(repo, monkeypatch):
    """The installer's modules."""
    monkeypatch.syspath_prepend(str(repo / 'tools' / 'install'))
    names = ('surroundings', 'environment', 'mmcv_build', 'mmcv_wheel', 'toolkit')
    return collections.namedtuple('Install', names)(
        *(importlib.import_module(name) for name in names)
    )


def run(repo, *options, **variables):
    return subprocess.run(
        [sys.executable, 'tools/install', *map(str, options)],
        cwd=repo,
        capture_output=True,
        text=True,
        env=dict(os.environ, **variables),
    )


def test_no_compiler_is_said_before_anything_is_done(repo, tmp_path):
    done = run(
        repo, '--venv', tmp_path / 'env', CXX='no-such-compiler', XDG_CACHE_HOME=str(tmp_path)
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        'make install: no C++ compiler (no-such-compiler), and mmcv has to be '
        'compiled; on Debian and Ubuntu: apt install g++'
    )
    assert not (tmp_path / 'env').exists()


def test_a_compiled_wheel_needs_no_compiler(install, monkeypatch, tmp_path):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    install.surroundings.check(str(tmp_path / 'env'), mmcv_at_hand=True)


def test_a_missing_wheel_folder_is_named(repo, tmp_path):
    done = run(repo, '--wheels', tmp_path / 'none')
    assert done.returncode == 1
    assert done.stderr.strip().endswith('none: no such folder')


def test_unsupported_python_is_named(install, monkeypatch):
    monkeypatch.setattr(install.surroundings, 'PYTHONS', ((2, 7),))
    with pytest.raises(SystemExit, match='not supported; use 2.7: make install PYTHON=python2.7'):
        install.surroundings.check_python()


def test_little_disk_is_named(install, monkeypatch, tmp_path):
    usage = collections.namedtuple('usage', 'total used free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage(9, 8, 1e9))
    with pytest.raises(SystemExit, match='has 1.0 GB free, and about 10 GB'):
        install.surroundings.check(str(tmp_path / 'a' / 'env'), True)


def test_missing_headers_are_named(install, monkeypatch, tmp_path):
    monkeypatch.setattr(
        install.surroundings.sysconfig, 'get_paths', lambda: dict(include=str(tmp_path))
    )
    monkeypatch.setenv('CXX', sys.executable)  # any program will do
    with pytest.raises(SystemExit, match='Python.h is missing.*-dev'):
        install.surroundings.check(str(tmp_path / 'env'), mmcv_at_hand=False)


@pytest.fixture
def env(install, tmp_path):
    return install.environment.Environment(str(tmp_path / 'env'), 'onedl', '2.13.0', '')


def test_a_new_environment_is_unfinished_until_it_is_marked(env):
    assert not env.is_finished()
    env.create()
    assert os.path.exists(env.python)
    assert not env.is_finished()
    env._write_mark(finished=True)
    assert env.is_finished()


@pytest.mark.parametrize('remains', ['marked', 'empty', 'parts'])
def test_a_half_made_environment_is_made_again(env, remains, capsys):
    os.makedirs(os.path.join(env.path, 'lib'))
    if remains == 'marked':
        env._write_mark(finished=False)
        with open(os.path.join(env.path, 'leftover'), 'w'):
            pass
    elif remains == 'empty':
        os.rmdir(os.path.join(env.path, 'lib'))
    env.create()
    assert 'half-made: making it again' in capsys.readouterr().out
    assert os.path.exists(env.python)
    assert not os.path.exists(os.path.join(env.path, 'leftover'))


@pytest.mark.parametrize('other', ['stack', 'requirements', 'python'])
def test_an_environment_for_something_else_is_made_again(env, other, capsys):
    os.makedirs(env.path)
    env._wanted[other] += 'x'
    env._write_mark(finished=True)
    env._wanted[other] = env._wanted[other][:-1]
    assert not env.is_finished()
    env.create()
    assert 'out of date: making it again' in capsys.readouterr().out


def test_a_folder_of_the_user_is_never_removed(env):
    os.makedirs(env.path)
    precious = os.path.join(env.path, 'thesis.tex')
    with open(precious, 'w'):
        pass
    with pytest.raises(SystemExit, match='was not made by make install'):
        env.create()
    assert os.path.exists(precious)


def test_a_working_environment_of_the_user_is_never_removed(env):
    subprocess.check_call([sys.executable, '-m', 'venv', env.path])
    with pytest.raises(SystemExit, match='was not made by make install'):
        env.create()
    assert os.path.exists(env.python)


def test_the_cache_name_tells_builds_apart(install, monkeypatch):
    name = install.mmcv_wheel.folder_name
    names = {
        name('onedl', '2.13.0+cpu', 'cpu'),
        name('openmmlab', '2.13.0+cpu', 'cpu'),
        name('onedl', '2.14.1+cpu', 'cpu'),
        name('onedl', '2.13.0+cu130', 'cu130'),
        name('onedl', '2.13.0+cu130', 'cpu'),
        name('onedl', '2.13.0+cu130', 'cu130', '9.0'),
        name('onedl', '2.13.0+cu130', 'cu130', '8.0;9.0+PTX'),
    }
    assert any('cu130-sm80-sm90ptx-cp' in n for n in names)
    monkeypatch.setattr(sys, 'version_info', (3, 99))
    names.add(name('onedl', '2.13.0+cpu', 'cpu'))
    assert len(names) == 8
    assert any('2.3.6' in n and 'torch2.13.0+cpu-cpu-cp399' in n for n in names)


class FakeEnvironment:
    stack, wheels = 'onedl', ''

    def __init__(self, torch, wheels=''):
        self.torch, self.wheels = torch, wheels

    def ask(self, code):
        assert 'torch.__version__' in code
        return [self.torch, None, False]


@pytest.fixture
def cache(install, monkeypatch, tmp_path):
    """An empty cache; compiling only says that it was asked for."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(
        install.mmcv_build, 'build', lambda env, folder, *rest: ('compiled', folder)
    )
    return tmp_path / 'mmgwap' / 'wheels'


def put_wheel(install, root, torch):
    folder = root / install.mmcv_wheel.folder_name('onedl', torch, 'cpu')
    folder.mkdir(parents=True)
    (folder / 'mmcv.whl').write_text('')
    return str(folder / 'mmcv.whl')


def test_a_wheel_of_another_torch_is_not_taken(install, cache):
    wheel = put_wheel(install, cache, '2.13.0+cpu')
    assert install.mmcv_wheel.get(FakeEnvironment('2.13.0+cpu')) == wheel
    for torch in ('2.13.0', '2.13.0+cu130', '2.13.1+cpu'):
        what, folder = install.mmcv_wheel.get(FakeEnvironment(torch))
        assert what == 'compiled' and f'torch{torch}-cpu-' in folder


def test_a_wheel_folder_serves_like_the_cache(install, cache, tmp_path):
    wheel = put_wheel(install, tmp_path / 'usb', '2.13.0+cpu')
    usb = str(tmp_path / 'usb')
    assert install.mmcv_wheel.get(FakeEnvironment('2.13.0+cpu', usb)) == wheel
    assert install.mmcv_wheel.is_at_hand('onedl', '2.13.0', usb)
    assert not install.mmcv_wheel.is_at_hand('onedl', '2.13.0', '')
    assert not install.mmcv_wheel.is_at_hand('onedl', '2.14.1', usb)


def test_an_interrupted_build_leaves_no_wheel(install, cache, tmp_path):
    folder = cache / install.mmcv_wheel.folder_name('onedl', '2.13.0+cpu', 'cpu')
    (folder / 'tmp1234').mkdir(parents=True)
    (folder / 'tmp1234' / 'mmcv.whl').write_text('half')
    assert not install.mmcv_wheel.is_at_hand('onedl', '2.13.0', '')
    assert install.mmcv_wheel.get(FakeEnvironment('2.13.0+cpu'))[0] == 'compiled'


@pytest.fixture
def gpu(install, cache, monkeypatch, tmp_path):
    """A torch that sees a GPU, and an nvcc of CUDA 13."""
    home = tmp_path / 'cuda'
    (home / 'bin').mkdir(parents=True)
    nvcc = home / 'bin' / 'nvcc'
    nvcc.write_text('#!/bin/sh\necho "Cuda tools, release 13.0, V13.0.88"\n')
    nvcc.chmod(0o755)
    monkeypatch.setenv('CUDA_HOME', str(home))

    def environment(torch_cuda):
        env = FakeEnvironment(f'2.13.0+cu{torch_cuda.replace(".", "")}')
        env.ask = lambda code: [env.torch, torch_cuda, True]
        return env

    return environment


def test_cuda_operators_are_built_where_nvcc_fits(install, gpu):
    what, folder = install.mmcv_wheel.get(gpu('13.0'))
    assert what == 'compiled' and 'torch2.13.0+cu130-cu130-cp' in folder


def test_an_nvcc_of_another_cuda_is_named(install, gpu):
    with pytest.raises(
        SystemExit, match='built for CUDA 12.6, and .* is of CUDA 13; set CUDA_HOME'
    ):
        install.mmcv_wheel.get(gpu('12.6'))


def test_an_nvcc_that_tells_no_release_is_named(install, gpu, tmp_path):
    (tmp_path / 'cuda' / 'bin' / 'nvcc').write_text('#!/bin/sh\nexit 3\n')
    with pytest.raises(SystemExit, match='nvcc --version tells no release'):
        install.mmcv_wheel.get(gpu('13.0'))


def test_a_missing_nvcc_is_said_first(install, gpu, monkeypatch, tmp_path):
    monkeypatch.setenv('CUDA_HOME', str(tmp_path))
    with pytest.raises(SystemExit, match='no nvcc.*CUDA 13.0'):
        install.mmcv_wheel.get(gpu('13.0'))
    monkeypatch.setattr(install.surroundings, 'has_gpu', lambda: True)
    with pytest.raises(SystemExit, match='a GPU is here but no nvcc'):
        install.surroundings.check(str(tmp_path / 'env'), mmcv_at_hand=False)


def test_a_finished_cuda_wheel_needs_no_nvcc(install, gpu, cache, monkeypatch, tmp_path):
    folder = cache / install.mmcv_wheel.folder_name('onedl', '2.13.0+cu130', 'cu130')
    folder.mkdir(parents=True)
    (folder / 'mmcv.whl').write_text('')
    monkeypatch.setenv('CUDA_HOME', str(tmp_path))
    assert install.mmcv_wheel.get(gpu('13.0')) == str(folder / 'mmcv.whl')


def test_a_wheel_folder_without_mmcv_is_named(install, cache, tmp_path):
    with pytest.raises(SystemExit, match='holds neither onedl-mmcv-2.3.6'):
        install.mmcv_wheel.get(FakeEnvironment('2.13.0', str(tmp_path)))
    (tmp_path / 'onedl_mmcv-2.3.6.tar.gz').write_text('')
    assert install.mmcv_wheel.get(FakeEnvironment('2.13.0', str(tmp_path)))[0] == 'compiled'


@pytest.fixture
def nvidia(tmp_path):
    """Torch's NVIDIA packages: all headers, and the runtime."""
    folder = tmp_path / 'site-packages' / 'nvidia'
    for path in (
        'cu13/include/cuda_runtime_api.h',
        'cu13/include/cublas_v2.h',
        'cu13/include/cublasLt.h',
        'cusparse/include/cusparse.h',
        'cu13/include/cusolverDn.h',
        'cu13/lib/libcudart.so.13',
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text('')
    return folder


@pytest.fixture
def nvcc(install, monkeypatch, tmp_path):
    """A script that calls the nvcc of a toolkit elsewhere."""
    monkeypatch.setattr(install.toolkit, 'SYSTEM', ())
    for name in ('CPATH', 'LIBRARY_PATH'):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / 'toolkit').mkdir()
    script = tmp_path / 'bin' / 'nvcc'
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "#$ TOP={tmp_path}/toolkit/bin/.." >&2\n')
    script.chmod(0o755)
    (tmp_path / 'toolkit' / 'bin').mkdir()
    return str(script)


def test_what_the_toolkit_lacks_is_taken_from_torch(install, nvcc, nvidia, tmp_path, capsys):
    include = tmp_path / 'toolkit' / 'include'
    include.mkdir()
    (include / 'cuda_runtime_api.h').write_text('')
    found = install.toolkit.variables(nvcc, str(nvidia), str(tmp_path))
    assert found == dict(
        CUDA_HOME=str(tmp_path / 'toolkit'),
        LIBRARY_PATH=str(tmp_path),
        CPATH=os.pathsep.join(str(nvidia / name / 'include') for name in ('cu13', 'cusparse')),
    )
    assert (tmp_path / 'libcudart.so').resolve() == (nvidia / 'cu13' / 'lib' / 'libcudart.so.13')
    said = capsys.readouterr().out
    assert 'has no cublas_v2.h, cublasLt.h, cusparse.h, cusolverDn.h' in said
    assert 'has no libcudart.so: taken from' in said


def test_a_whole_toolkit_is_left_alone(install, nvcc, nvidia, tmp_path, capsys):
    shutil.copytree(nvidia / 'cu13' / 'include', tmp_path / 'toolkit' / 'include')
    (tmp_path / 'toolkit' / 'include' / 'cusparse.h').write_text('')
    (tmp_path / 'toolkit' / 'lib64').mkdir()
    (tmp_path / 'toolkit' / 'lib64' / 'libcudart.so').write_text('')
    found = install.toolkit.variables(nvcc, str(nvidia), str(tmp_path))
    assert found == dict(CUDA_HOME=str(tmp_path / 'toolkit'))
    assert capsys.readouterr().out == ''


def test_the_user_s_search_path_stays_in_front(install, nvcc, nvidia, tmp_path, monkeypatch):
    own = tmp_path / 'own'
    own.mkdir()
    (own / 'cusparse.h').write_text('')
    monkeypatch.setenv('CPATH', str(own))
    found = install.toolkit.variables(nvcc, str(nvidia), str(tmp_path))
    assert found['CPATH'] == f'{own}:{nvidia}/cu13/include'


def test_a_header_that_is_nowhere_is_named(install, nvcc, nvidia, tmp_path):
    (nvidia / 'cusparse' / 'include' / 'cusparse.h').unlink()
    with pytest.raises(SystemExit, match='has no cusparse.h, and no NVIDIA'):
        install.toolkit.variables(nvcc, str(nvidia), str(tmp_path))


def test_packages_of_the_user_are_never_removed(env):
    """Not even in an environment that no longer works."""
    packages = os.path.join(env.path, 'lib', 'python3.11', 'site-packages')
    os.makedirs(os.path.join(packages, 'precious'))
    with pytest.raises(SystemExit, match='was not made by make install'):
        env.create()
    assert os.path.exists(packages)


def test_the_environment_of_the_tests_is_pinned(repo):
    """What runs the tests is what the requirement files say."""
    from importlib.metadata import version

    from packaging.requirements import Requirement

    mark = os.path.join(sys.prefix, 'mmgwap-install.json')
    if not os.path.exists(mark):
        pytest.skip('not run in the environment of make install')
    with open(mark) as file:
        stack = json.load(file)['stack']
    for name in ('common.txt', f'{stack}.txt'):
        for line in (repo / 'requirements' / name).read_text().splitlines():
            if line[0] in '#-':
                continue
            wanted = Requirement(line)
            if not wanted.marker or wanted.marker.evaluate():
                assert version(wanted.name) in wanted.specifier, line
