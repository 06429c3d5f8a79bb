"""The installer and the GPU check, with stand-ins for pip, compilers and torch."""

import collections
import importlib
import json
import os
import shutil
import subprocess
import sys

import pytest

CPU_WHEEL = 'onedl-mmcv-2.3.6-torch2.13.0+cpu-cpu-cp{}{}-x86_64'.format(*sys.version_info)


@pytest.fixture
def install(repo, monkeypatch, tmp_path):
    """The installer, with an empty cache, a CPU build of torch, and any program as compiler."""
    monkeypatch.syspath_prepend(str(repo / 'tools'))
    module = importlib.import_module('install')
    monkeypatch.setattr(module, 'CACHE', tmp_path / 'cache')
    monkeypatch.setattr(module, 'ask_torch', lambda _: ['2.13.0+cpu', None, '', '/torch.py'])
    monkeypatch.setattr(module.platform, 'machine', lambda: 'x86_64')
    monkeypatch.setenv('CXX', sys.executable)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    return module


@pytest.fixture
def env(install, tmp_path):
    return install.Environment(tmp_path / 'env', 'onedl')


@pytest.fixture
def commands(install, monkeypatch):
    """List commands instead of running them. ``pip wheel -w FOLDER`` leaves a wheel there."""
    listed = []

    def run(*command, **options):
        command = [str(part) for part in command]
        listed.append((command, options.get('env')))
        if command[1:3] == ['-m', 'venv']:
            os.makedirs(f'{command[-1]}/lib/python3/site-packages')
            put_file(f'{command[-1]}/bin/python')
        if 'wheel' in command:
            put_file(command[command.index('-w') + 1] + '/mmcv.whl')

    monkeypatch.setattr(install, 'run', run)
    return listed


def put_file(path, text=''):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as file:
        file.write(text)
    return path


@pytest.mark.parametrize(
    'options, message',
    [
        (['--venv'], 'no C++ compiler no-such-compiler'),
        (['--wheels'], 'none: no such folder'),
        (['--stack'], 'invalid choice'),
    ],
)
def test_errors_of_the_command_line(repo, tmp_path, options, message):
    env = dict(os.environ, CXX='no-such-compiler', XDG_CACHE_HOME=str(tmp_path))
    command = [sys.executable, 'tools/install.py', *options, str(tmp_path / 'none')]
    done = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True)
    assert done.returncode and message in done.stderr.splitlines()[-1]
    assert not (tmp_path / 'none').exists()


def test_unsupported_python(install):
    with pytest.raises(SystemExit, match=r'is Python 3\.\d+\.\d+; set PYTHON= to 2.7'):
        install.main(install.Environment, '.venv', '2.7')


def test_little_disk(install, env, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: collections.namedtuple('_', 'free')(5e9))
    monkeypatch.setenv('PIP_INDEX_URL', 'https://pypi.org/simple')
    monkeypatch.setenv('PIP_EXTRA_INDEX_URL', '')
    with pytest.raises(SystemExit, match=f'{tmp_path} has less than 10 GB'):
        env.install()
    monkeypatch.setenv('PIP_EXTRA_INDEX_URL', 'https://download.pytorch.org/whl/cpu')
    env.check_machine()


@pytest.fixture
def toolkit(monkeypatch, tmp_path):
    """CUDA 13.0, its nvcc reached by a link."""
    nvcc = put_file(tmp_path / 'cuda-13.0' / 'bin' / 'nvcc', '#!/bin/sh\necho "release 13.0, V13"')
    nvcc.chmod(0o755)
    (tmp_path / 'cuda').symlink_to(tmp_path / 'cuda-13.0')
    monkeypatch.setenv('CUDA_HOME', str(tmp_path / 'cuda'))
    return tmp_path / 'cuda-13.0'


def test_missing_compilers(install, toolkit, monkeypatch):
    install.check_compiler('13.0')
    with pytest.raises(SystemExit, match='nvcc of CUDA 12.6'):
        install.check_compiler('12.6')
    put_file(toolkit / 'bin' / 'nvidia-smi', '#!/bin/sh\necho "GPU 0: a GPU"').chmod(0o755)
    monkeypatch.setenv('PATH', str(toolkit / 'bin'))
    (toolkit / 'bin' / 'nvcc').unlink()
    install.check_compiler()  # CUDA_VISIBLE_DEVICES is empty
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    with pytest.raises(SystemExit, match='no nvcc'):
        install.check_compiler()
    monkeypatch.setattr(install.sysconfig, 'get_paths', lambda: dict(include='/none'))
    with pytest.raises(SystemExit, match='/none/Python.h'):
        install.check_compiler()


def test_keep_a_finished_environment(env, commands, tmp_path):
    env.path.mkdir()  # an empty folder may be there
    assert env.install() == tmp_path / 'env' / 'bin' / 'python'
    number = len(commands)
    assert env.install() == env.python
    assert len(commands) == number > 4
    assert json.loads(env.mark.read_text())['stack'] == 'onedl'


def test_make_a_half_made_environment_again(env, commands, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(env, 'install_requirements', lambda *_: sys.exit('no network'))
        with pytest.raises(SystemExit, match='no network'):
            env.install()
    put_file(env.path / 'leftover')
    env.install()
    assert 'half-made' in capsys.readouterr().out
    assert env.mark.read_text() and not (env.path / 'leftover').exists()


@pytest.mark.parametrize('change', ['torch', 'requirements', 'stack', 'python'])
def test_make_an_outdated_environment_again(install, env, commands, monkeypatch, tmp_path, change):
    env.install()
    leftover = put_file(env.path / 'leftover')
    if change == 'torch':
        monkeypatch.setattr(install, 'TORCH', '2.13')
    elif change == 'requirements':
        shutil.copytree(install.REQUIREMENTS, tmp_path / 'requirements')
        put_file(tmp_path / 'requirements' / 'common.txt')
        monkeypatch.setattr(install, 'REQUIREMENTS', tmp_path / 'requirements')
    elif change == 'stack':
        env.stack = 'openmmlab'
    else:
        env.python.unlink()
    env.install()
    assert not leftover.exists() and env.mark.read_text()


def test_keep_a_folder_of_the_user(env, commands):
    thesis = put_file(env.path / 'thesis.tex')
    with pytest.raises(SystemExit, match=f'{env.path} was not made by this script'):
        env.install()
    assert thesis.exists() and not commands


@pytest.mark.parametrize('stack', ['onedl', 'openmmlab'])
def test_stack_selects_requirements_and_mmcv(install, commands, tmp_path, repo, stack):
    install.Environment(tmp_path / 'env', stack).install()
    parts = [part for command, _ in commands for part in command]
    assert str(repo / 'requirements' / f'{stack}.txt') in parts
    assert install.MMCV[stack] in parts and 'torch==2.13.0' in parts
    assert '--find-links' not in parts


def test_name_of_the_wheel_folder(install, env, monkeypatch):
    monkeypatch.setattr(env, 'compile_mmcv', lambda folder, *_: folder.name)
    assert env.mmcv_wheel() == CPU_WHEEL
    facts = ['2.11.0+cu130', '13.0', '8.0;9.0+PTX', '/torch.py']
    monkeypatch.setattr(install, 'ask_torch', lambda _: facts)
    assert '-torch2.11.0+cu130-cu130-sm80-sm90ptx-cp' in env.mmcv_wheel()
    env.stack = 'openmmlab'
    assert env.mmcv_wheel().startswith('mmcv-2.1.0-torch2.11.0+cu130-cu130-')
    monkeypatch.setattr(sys, 'version_info', (3, 99))
    assert env.mmcv_wheel().endswith('-cp399-x86_64')


def test_ignore_a_wheel_for_another_torch(install, env, monkeypatch):
    monkeypatch.setattr(env, 'compile_mmcv', lambda *_: 'compiled')
    wheel = put_file(install.CACHE / CPU_WHEEL / 'mmcv.whl')
    assert env.mmcv_wheel() == wheel
    monkeypatch.setattr(install, 'ask_torch', lambda _: ['2.13.1+cpu', None, '', ''])
    assert env.mmcv_wheel() == 'compiled'


def test_install_from_the_wheel_folder(install, commands, monkeypatch, tmp_path):
    wheel = put_file(tmp_path / 'usb' / CPU_WHEEL / 'mmcv.whl')
    monkeypatch.setenv('CXX', 'no-such-compiler')
    install.Environment(tmp_path / 'env', 'onedl', tmp_path / 'usb').install()
    pip = [command for command, _ in commands if 'pip' in command]
    assert any(str(wheel) in command for command in pip)
    assert all({'--no-index', str(tmp_path / 'usb')} <= set(command) for command in pip)


def test_save_wheels(env, commands, tmp_path):
    env.save_wheels(tmp_path / 'usb')
    assert (tmp_path / 'usb' / CPU_WHEEL / 'mmcv.whl').exists()
    saved = sum((command for command, _ in commands if str(tmp_path / 'usb') in command), [])
    assert {'torch==2.13.0', 'setuptools==80.9.0', 'onedl-mmcv==2.3.6', '-r'} <= set(saved)


def test_compile_for_the_cpu(install, env, commands, monkeypatch):
    for name, value in dict(MAX_JOBS='3', CFLAGS='-O1', FORCE_CUDA='1').items():
        monkeypatch.setenv(name, value)
    wheel = env.mmcv_wheel()
    assert wheel == install.CACHE / CPU_WHEEL / 'mmcv.whl' and wheel.exists()
    ((command, used),) = commands
    assert {'--no-build-isolation', '--no-cache-dir', 'onedl-mmcv==2.3.6'} <= set(command)
    assert (used['FORCE_CUDA'], used['MAX_JOBS'], used['CFLAGS']) == ('0', '3', '-O1 -g0')
    assert used['PATH'].startswith(str(env.path / 'bin'))


def test_compile_with_cuda(install, env, commands, monkeypatch, tmp_path, toolkit):
    headers = tmp_path / 'site' / 'nvidia' / 'cu13' / 'include'
    headers.mkdir(parents=True)
    file = str(tmp_path / 'site' / 'torch' / '__init__.py')
    monkeypatch.setattr(install, 'ask_torch', lambda _: ['2.11.0+cu130', '13.0', '8.0;9.0', file])
    env.mmcv_wheel()
    ((_, used),) = commands
    assert (used['FORCE_CUDA'], used['TORCH_CUDA_ARCH_LIST']) == ('1', '8.0;9.0')
    assert (used['CUDA_HOME'], used['CPLUS_INCLUDE_PATH']) == (str(toolkit), str(headers))


def test_failed_compilation_leaves_no_wheel(install, env, monkeypatch):
    monkeypatch.setattr(install.subprocess, 'call', lambda *_, **__: 1)
    with pytest.raises(SystemExit, match='failed: .*onedl-mmcv==2.3.6'):
        env.mmcv_wheel()
    assert not env.find_wheel(CPU_WHEEL)


@pytest.fixture
def gpu_check(install, monkeypatch):
    module = importlib.import_module('gpu_check')
    facts = ['2.11.0+cu130', '13.0', '9.0', '/site/torch/__init__.py']
    monkeypatch.setattr(install, 'ask_torch', lambda _: facts)
    monkeypatch.setattr(module, 'VERSIONS', 'print("versions")')
    return module


def test_name_a_python_without_gpu(repo):
    env = dict(os.environ, CUDA_VISIBLE_DEVICES='', TORCH_CUDA_ARCH_LIST='')
    command = ['make', 'gpu-check', f'PYTHON={sys.executable}']
    done = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True)
    assert done.returncode and f'of {sys.executable} finds no GPU' in done.stderr


def test_install_missing_packages_only(gpu_check, commands, monkeypatch, tmp_path, toolkit):
    found = {'numpy': '1.26.0', 'onedl-mmdetection': '9.0', 'onedl-mmengine': '0.10.12'}
    package = collections.namedtuple('Package', 'version')
    distributions = {name: [package(version)] for name, version in found.items()}
    monkeypatch.setattr(gpu_check, 'distributions', lambda name: distributions.get(name, []))
    monkeypatch.setenv('PYTHONPATH', 'hides packages of the environment')
    gpu_check.TorchEnvironment(tmp_path / 'env', 'onedl').install()
    names = {part.split('==')[0] for command, _ in commands for part in command if '==' in part}
    assert {'onedl-mmdetection', 'pytest', 'scipy', 'ninja'} <= names
    assert not {'torch', 'triton', 'numpy', 'onedl-mmengine'} & names
    assert 'PYTHONPATH' not in os.environ
    commands.clear()
    monkeypatch.setattr(gpu_check, 'is_missing', lambda pin: False)
    gpu_check.TorchEnvironment(tmp_path / 'complete', 'onedl').install()
    assert len([command for command, _ in commands if 'pip' in command]) == 2  # tools, mmcv


def test_import_packages_of_the_local_python(gpu_check, monkeypatch, tmp_path):
    local = tmp_path / 'local' / 'site-packages'
    for name in ('only_local', 'in_both'):
        put_file(local / f'{name}.py', 'origin = "local"')
    monkeypatch.setattr(sys, 'path', [*sys.path, str(local)])
    env = gpu_check.TorchEnvironment(tmp_path / 'env', 'onedl')
    env.create()
    (own,) = env.path.glob('lib/python*/site-packages')
    put_file(own / 'in_both.py', 'origin = "environment"')
    code = 'import only_local, in_both; print(only_local.origin, in_both.origin)'
    assert subprocess.check_output([env.python, '-c', code], text=True) == 'local environment\n'


@pytest.mark.parametrize(
    'test, bench, summary',
    [
        ('pass', 'open("gpu.json", "w")', '1 tests 0 failures 0 errors 0 skipped'),
        ('pytest.skip("no GPU")', 'open("gpu.json", "w")', '1 skipped'),
        ('assert False', 'open("gpu.json", "w")', '1 failures'),
        ('import os; os._exit(3)', 'open("gpu.json", "w")', 'None tests'),
        ('pass', 'pass', 'benchmark: no file'),
        ('pass', 'open("gpu.json", "w"); exit(1)', 'FAILED: exit statuses [0, 1]'),
    ],
)
def test_gpu_check_passes_only_if_everything_ran(
    install, gpu_check, monkeypatch, tmp_path, capsys, test, bench, summary
):
    monkeypatch.setattr(install, 'REPO', tmp_path)
    monkeypatch.setenv('PYTEST_DISABLE_PLUGIN_AUTOLOAD', '1')
    put_file(tmp_path / 'work_dirs/bench/cpu.json')
    os.utime(tmp_path / 'work_dirs/bench/cpu.json', (0, 0))
    put_file(tmp_path / 'tools/benchmarks', f'import os; os.chdir("work_dirs/bench"); {bench}')
    put_file(tmp_path / 'pytest.ini', '[pytest]\nmarkers = gpu: needs a CUDA device\n')
    marked = f'import pytest\n@pytest.mark.gpu\ndef test_a():\n    {test}\n'
    put_file(tmp_path / 'test_gpu.py', marked + 'def test_b():\n    assert 0\n')
    status = gpu_check.run_checks(sys.executable)
    assert summary in capsys.readouterr().out
    assert status == (0 if '0 skipped' in summary else 1)
