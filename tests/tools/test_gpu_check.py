"""make gpu-check: what it stops at, what it installs, and what it lets pass.

All of it without a GPU: the local Python and its torch are stand-ins.
"""

import collections
import importlib
import json
import os
import re
import subprocess
import sys

import pytest

NAMES = ('gpu_wheels', 'local_python', 'overlay', 'packages', 'surroundings', 'trials')


@pytest.fixture
def check(repo, monkeypatch):
    """The tool's modules."""
    for folder in ('install', 'gpu_check'):
        monkeypatch.syspath_prepend(str(repo / 'tools' / folder))
    found = collections.namedtuple('Check', NAMES)(
        *(importlib.import_module(name) for name in NAMES)
    )
    monkeypatch.setattr(found.surroundings, 'PROGRAM', 'make gpu-check')
    return found


@pytest.fixture
def local(check):
    """A Python that lacks nothing."""
    packages = dict(check.packages.pins('onedl'), torch='2.11.0', triton='3.6.0')
    return check.local_python.Local(
        sys.executable,
        sys.prefix,
        [3, 12, 3],
        '2.11.0+cu130',
        '13.0',
        [['NVIDIA H200', 9, 0]],
        '',
        True,
        True,
        True,
        [],
        packages,
    )


def without(local, *names, **versions):
    packages = {name: version for name, version in local.packages.items() if name not in names}
    return local._replace(packages=dict(packages, **versions))


# --- stops


def run(repo, tmp_path, torch, *options, **variables):
    """Run the tool where ``import torch`` gives this source."""
    if torch is not None:
        (tmp_path / 'torch').mkdir()
        (tmp_path / 'torch' / '__init__.py').write_text(torch)
    return subprocess.run(
        [sys.executable, 'tools/gpu_check', '--venv', tmp_path / 'env', *map(str, options)],
        cwd=repo,
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(tmp_path), **variables),
    )


def torch(cuda, version='2.11.0'):
    return (
        f'class version: cuda = {cuda!r}\n__version__ = {version!r}\n'
        'class cuda:\n'
        '    @staticmethod\n'
        '    def init(): raise RuntimeError("no driver\\nat all")\n'
    )


@pytest.mark.parametrize(
    'source, said',
    [
        (
            torch(None, '2.11.0+cpu'),
            'no CUDA device can be used: torch '
            r'2.11.0\+cpu is a build without CUDA, that of',
        ),
        (
            torch('13.0'),
            r'no CUDA device: torch 2.11.0 of \S+ sees none '
            r'\(no driver\)',
        ),
        (torch('12.4', '2.5.1'), 'torch 2.5.1 of .* is too old: mmgwap needs 2.6'),
        (
            'raise ImportError("no libcudart")',
            'no CUDA device can be used: no '
            r'torch \(ImportError\(.no libcudart.\)\) of',
        ),
    ],
)
def test_no_device_is_one_line_and_nothing_is_made(repo, tmp_path, source, said):
    done = run(repo, tmp_path, source, '--python', sys.executable)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.match('make gpu-check: ' + said, done.stderr)
    assert not (tmp_path / 'env').exists()


def test_no_python_has_a_torch_with_cuda(repo, tmp_path):
    done = run(repo, tmp_path, torch(None))
    assert done.returncode == 1
    assert 'none has a torch with CUDA; name the Python' in done.stderr


def test_a_python_that_is_none_is_named(repo, tmp_path):
    done = run(repo, tmp_path, None, '--python', 'no-such-python')
    assert done.stderr == (
        'make gpu-check: no CUDA device can be used: PYTHON=no-such-python is no program\n'
    )


def test_a_python_that_does_not_run_is_named(repo, tmp_path):
    (tmp_path / 'python').write_text('#!/bin/sh\nexit 7\n')
    (tmp_path / 'python').chmod(0o755)
    done = run(repo, tmp_path, None, '--python', tmp_path / 'python')
    assert done.stderr.endswith('/python does not run\n')


def test_a_missing_wheel_folder_is_named(repo, tmp_path):
    done = run(repo, tmp_path, None, '--wheels', tmp_path / 'none')
    assert done.returncode == 1
    assert done.stderr.strip().endswith('none: no such folder')


def test_a_probe_that_crashes_is_told(check, tmp_path):
    (tmp_path / 'python').write_text('#!/bin/sh\nexit 9\n')
    (tmp_path / 'python').chmod(0o755)
    with pytest.raises(SystemExit, match='ended with status 9 when asked'):
        check.local_python.probe(str(tmp_path / 'python'))


def test_the_first_python_with_cuda_is_taken(check, tmp_path, monkeypatch):
    for name, status in (('python3', 1), ('python3.12', 0), ('python', 0)):
        (tmp_path / name).write_text(f'#!/bin/sh\nexit {status}\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}')
    assert check.local_python.choose('') == 'python3.12'


def test_a_whole_machine_is_no_reason_to_stop(check, local):
    check.local_python.check(local)


def test_an_old_python_is_named(check, local):
    with pytest.raises(SystemExit, match='is Python 3.10, and the pinned'):
        check.local_python.check(local._replace(version=[3, 10, 4]))


def test_compiling_for_another_machine_needs_no_device(check, local):
    nothing = local._replace(devices=[])
    with pytest.raises(SystemExit, match='no CUDA device'):
        check.local_python.check(nothing)
    check.local_python.check(nothing, needs_device=False)


def test_each_kind_of_gpu_is_compiled_for_once(local):
    devices = [['B', 10, 0], ['A', 8, 6], ['B', 10, 0]]
    assert local._replace(devices=devices).archs == '8.6;10.0'


def test_the_probe_knows_this_python(check):
    from importlib.metadata import version

    here = check.local_python.probe()
    assert here.executable == sys.executable
    assert here.version == list(sys.version_info[:3])
    assert here.torch == importlib.import_module('torch').__version__
    assert here.packages['numpy'] == version('numpy')
    assert here.cv2
    assert os.path.dirname(pytest.__path__[0]) in here.paths
    assert os.path.dirname(json.__path__[0]) not in here.paths


# --- what is installed


def lacking(check, local, stack='onedl'):
    return check.packages.lacking(check.packages.pins(stack), local)


def test_nothing_is_installed_that_is_there(check, local):
    assert lacking(check, local) == set()


def test_newer_ones_are_taken_and_old_ones_are_not(check, local):
    assert lacking(
        check, without(local, scipy='99.1', rich='1.0', shapely='1.8.5', pytest='7.4.0rc1')
    ) == {'shapely'}


def test_what_is_missing_is_installed(check, local):
    # Under whichever spelling it goes.
    packages = {
        name.replace('-', '_').upper(): version
        for name, version in local.packages.items()
        if name not in ('yapf', 'six')
    }
    assert lacking(check, local._replace(packages=packages)) == {'yapf', 'six'}


def test_the_tested_distributions_are_exact(check, local):
    names = ('onedl-mmdetection', 'onedl-mmengine')
    newer = without(local, **{name: '9.0' for name in names})
    assert lacking(check, newer) == set(names)
    assert lacking(check, local, 'openmmlab') == {'mmdet', 'mmengine'}


def test_any_opencv_that_imports_serves(check, local):
    name = 'opencv-python-headless'
    other = without(local, name, **{'opencv-contrib-python': '4.5'})
    assert lacking(check, other) == set()
    # It may lack libraries of a desktop.
    assert lacking(check, other._replace(cv2=False)) == {name}


def test_with_numpy_goes_what_was_compiled_against_it(check, local):
    found = lacking(check, without(local, numpy='1.24.4'))
    assert found == {'numpy', *check.packages.ON_NUMPY}
    assert 'numpy' in lacking(check, without(local, 'numpy'))


@pytest.mark.parametrize('there', ['3.6.0', None])
def test_triton_is_torch_s_own(check, local, there, tmp_path, monkeypatch):
    (tmp_path / 'common.txt').write_text('triton==3.7.1\ntorch==2.13.0\nsix==1.17.0  # a comment\n')
    (tmp_path / 'onedl.txt').write_text('-r common.txt\n')
    monkeypatch.setattr(check.packages, 'REQUIREMENTS', str(tmp_path))
    assert check.packages.pins('onedl') == dict(six='1.17.0')
    local = local._replace(packages={'triton': there} if there else {})
    assert lacking(check, local) == {'six'}


@pytest.mark.parametrize('stack', ['onedl', 'openmmlab'])
def test_the_lists_name_pinned_packages(check, stack):
    """A misspelt name would have no effect."""
    pins = set(check.packages.pins(stack))
    optional = {'scikit-image'}  # of imaug, which one stack has
    assert set(check.packages.OLDEST) <= pins
    assert set(check.packages.ON_NUMPY) <= pins | optional
    assert set(check.gpu_wheels.COMMON) <= pins | optional
    assert not {'torch', 'triton'} & pins


@pytest.mark.parametrize(
    'file, fits',
    [
        ('six-1.17.0-py2.py3-none-any.whl', True),
        ('six-1.17.0-cp312-cp312-manylinux2014_x86_64.whl', True),
        ('six-1.17.0-1-cp38-abi3-manylinux_2_17_x86_64.whl', True),
        ('six-1.17.0-cp313-abi3-manylinux_2_17_x86_64.whl', False),
        ('six-1.17.0-cp311-cp311-manylinux2014_x86_64.whl', False),
        ('six-1.16.0-py3-none-any.whl', False),
        ('six-1.17.0.tar.gz', False),
    ],
)
def test_a_wheel_for_another_python_is_none(check, tmp_path, file, fits):
    (tmp_path / file).write_text('')
    assert check.packages.without_wheel({'six'}, dict(six='1.17.0'), str(tmp_path), [3, 12]) == (
        [] if fits else ['six==1.17.0']
    )


# --- the environment


def overlay(check, tmp_path, local, wheels=''):
    return check.overlay.Overlay(str(tmp_path / 'env'), 'onedl', wheels, local, '9.0')


def test_the_local_packages_are_seen_behind_ours(check, local, tmp_path, monkeypatch):
    path = tmp_path / 'local packages'
    path.mkdir()
    for name in ('only_there', 'here_too'):
        (path / f'{name}.py').write_text('place = "local"')
    # It would hide what is installed.
    monkeypatch.setenv('PYTHONPATH', str(path))
    env = overlay(check, tmp_path, local._replace(paths=[str(path)]))
    env.create('--without-pip')
    env._see_local()
    (packages,) = (tmp_path / 'env' / 'lib').glob('python*/site-packages')
    (packages / 'here_too.py').write_text('place = "ours"')
    assert env.ask(
        'import json, only_there, here_too; print(json.dumps([only_there.place, here_too.place]))'
    ) == ['local', 'ours']


@pytest.fixture
def calls(check, monkeypatch):
    """Nothing is made or run; what would be is listed."""
    made = []
    venv = check.overlay.MarkedVenv
    monkeypatch.setattr(check.overlay.Overlay, '_see_local', lambda self: 0)
    monkeypatch.setattr(venv, 'create', lambda self, *o: made.append(o))
    monkeypatch.setattr(venv, 'pip', lambda self, *o: made.append(o))
    monkeypatch.setattr(venv, 'ask', lambda self, code: [])
    return made


def test_what_is_there_is_left_alone(check, local, tmp_path, calls):
    overlay(check, tmp_path, without(local, 'six')).fill()
    assert calls[0] == ('--without-pip',)
    installs = calls[1:]
    assert len(installs) == 2
    for call in installs:
        assert call[:2] == ('install', '--ignore-installed')
        assert '--no-deps' in call
    assert installs[1][-1] == 'six==' + local.packages['six']


def test_a_python_without_pip_gets_one(check, local, tmp_path, calls):
    overlay(check, tmp_path, local._replace(pip=False)).fill()
    assert calls[0] == ()
    with pytest.raises(
        SystemExit,
        match=r'neither pip nor ensurepip; .*'
        r'apt install python3\.12-venv',
    ):
        check.local_python.check(local._replace(pip=False, ensurepip=False))


def test_what_an_installed_package_asks_for_follows(check, local, tmp_path, calls, monkeypatch):
    answers = [['NumPy', 'no-pin-of-ours', 'six'], ['numpy']]
    monkeypatch.setattr(check.overlay.MarkedVenv, 'ask', lambda self, code: answers.pop(0))
    overlay(check, tmp_path, without(local, 'six')).fill()
    assert answers == []
    names = {pin.split('==')[0] for pin in calls[-1] if '==' in pin}
    assert names == {'numpy', *check.packages.ON_NUMPY}


def test_unmet_requirements_are_found(check, tmp_path):
    """By the code that asks an environment."""
    packages = tmp_path / 'lib'
    for name, lines in (
        ('a', ['b>=2', 'c', 'opencv-python', 'd; python_version < "3"', 'packaging']),
        ('b', []),
    ):
        (packages / f'{name}-1.0.dist-info').mkdir(parents=True)
        (packages / f'{name}-1.0.dist-info' / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n'
            + ''.join(f'Requires-Dist: {line}\n' for line in lines)
        )
    code = f'import sys; sys.prefix = {str(tmp_path)!r}; sys.path.append({str(packages)!r})\n'
    done = subprocess.check_output([sys.executable, '-c', code + check.packages.ASK_UNMET])
    assert json.loads(done) == ['b', 'c']


def test_missing_wheels_are_named_before_anything_is_made(check, local, tmp_path):
    wheels = tmp_path / 'wheels'
    wheels.mkdir()
    for tool in ('setuptools-80.9.0', 'wheel-0.45.1', 'ninja-1.13.0'):
        (wheels / f'{tool}-py3-none-any.whl').write_text('')
    overlay(check, tmp_path, local, str(wheels)).check_wheels()
    with pytest.raises(
        SystemExit,
        match=r'has no wheel for Python 3\.12 of '
        r'.*numpy==[\d.]+, .*scipy==[\d.]+.*which .* lacks.*'
        r'make gpu-wheels WHEELS=\S+ GPU_PYTHON=3\.12$',
    ):
        overlay(check, tmp_path, without(local, 'numpy'), str(wheels)).check_wheels()


def test_another_gpu_or_torch_makes_it_again(check, local, tmp_path):
    env = overlay(check, tmp_path, local)
    os.makedirs(os.path.dirname(env.python))
    with open(env.python, 'w'):
        pass
    env._write_mark(finished=True)
    assert overlay(check, tmp_path, local).is_finished()
    for other in (
        local._replace(torch='2.12.0'),
        local._replace(paths=['/elsewhere']),
        without(local, 'six'),
    ):
        assert not overlay(check, tmp_path, other).is_finished()
    assert not check.overlay.Overlay(env.path, 'onedl', '', local, '8.0').is_finished()


# --- tests and benchmark


@pytest.fixture
def project(check, tmp_path, monkeypatch):
    """A project with a test that needs no GPU."""
    monkeypatch.setattr(check.trials, 'REPO', str(tmp_path))
    (tmp_path / 'pytest.ini').write_text('[pytest]\nmarkers = gpu: needs a CUDA device\n')
    (tmp_path / 'test_other.py').write_text('def test(): assert False\n')
    return tmp_path


def gpu_tests(check, project, **bodies):
    (project / 'test_gpu.py').write_text(
        'import pytest\n'
        + ''.join(
            f'@pytest.mark.gpu\ndef test_{name}():\n    {body}\n' for name, body in bodies.items()
        )
    )
    env = collections.namedtuple('Env', 'python variables')(sys.executable, None)
    return check.trials.run_tests(env)


def test_all_tests_of_a_gpu_have_to_pass(check, project):
    assert gpu_tests(check, project, a='pass', b='pass') == (True, 'tests: 2 passed')


@pytest.mark.parametrize(
    'body, said',
    [
        ('pytest.skip("needs a CUDA device")', '1 passed, 1 skipped (a skipped '),
        ('pytest.xfail("known")', '1 passed, 1 skipped'),
        ('assert 1 == 2', '1 passed, 1 failed'),
        ('raise SystemExit(0)', '1 passed, 1 failed'),
    ],
)
def test_a_test_that_did_not_pass_fails_the_check(check, project, body, said):
    passed, line = gpu_tests(check, project, a='pass', b=body)
    assert not passed
    assert said in line


def test_no_test_of_a_gpu_fails_the_check(check, project):
    assert gpu_tests(check, project) == (False, 'tests: none of a GPU was found')


def test_a_crash_of_the_tests_fails_the_check(check, project):
    passed, line = gpu_tests(check, project, a='import os; os._exit(3)')
    assert (passed, line) == (False, 'tests: pytest ended with status 3')


@pytest.mark.parametrize(
    'writes, status, said',
    [
        (True, 0, 'work_dirs/bench/gpu.json'),
        (False, 0, 'no file written'),
        (True, 1, 'work_dirs/bench/gpu.json (ended with status 1)'),
    ],
)
def test_the_benchmark_has_to_write_and_to_end(check, project, writes, status, said):
    (project / 'work_dirs' / 'bench').mkdir(parents=True)
    old = project / 'work_dirs' / 'bench' / 'cpu.json'
    old.write_text('')
    os.utime(old, (0, 0))
    (project / 'tools').mkdir()
    (project / 'tools' / 'benchmarks').write_text(
        'import sys\n'
        'assert sys.argv[1:] == ["--device", "cuda", "--out", '
        '"work_dirs/bench", "--only", "lip"]\n'
        f'if {writes}: open("work_dirs/bench/gpu.json", "w")\n'
        f'sys.exit({status})\n'
    )
    env = collections.namedtuple('Env', 'python variables')(sys.executable, None)
    passed, line = check.trials.run_bench(env, ['--only', 'lip'])
    assert line == 'benchmark: ' + said
    assert passed == (writes and not status)


# --- the wheel folder


def test_the_wheels_are_for_the_named_python(check, tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(
        check.gpu_wheels.subprocess, 'call', lambda command: commands.append(command) or 0
    )
    monkeypatch.setattr(check.gpu_wheels, '_build', lambda *_: 0)
    for slim in (False, True):
        check.gpu_wheels.save('onedl', str(tmp_path), '3.12', slim)
    whole, slim = (
        {part.split('==')[0] for part in command if '==' in part} for command in commands
    )
    assert whole - slim == set(check.gpu_wheels.COMMON)
    assert {'shapely', 'setuptools', 'ninja'} <= slim
    assert not {'torch', 'triton', 'onedl-mmdetection'} & whole
    command = commands[0]
    assert command[command.index('--python-version') + 1] == '3.12'
    assert '--only-binary=:all:' in command


@pytest.mark.parametrize('python', ['3.10', '3', 'python3.12', '2.7'])
def test_a_strange_python_version_is_named(check, python, tmp_path):
    with pytest.raises(SystemExit, match=f'GPU_PYTHON={python} is no version'):
        check.gpu_wheels.save('onedl', str(tmp_path), python, False)
