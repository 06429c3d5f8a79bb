"""The check of the environment that mmgwap is installed into."""

import subprocess
import sys
import types

import pytest

from mmgwap.host import Requirement, _check, check_host

FAKE = Requirement('fake_host', '2.0', '3', 'pip install fake-host')


def provide(monkeypatch, version):
    module = types.ModuleType('fake_host')
    module.__version__ = version
    monkeypatch.setitem(sys.modules, 'fake_host', module)


def test_this_environment_is_fine():
    assert check_host() is None


@pytest.mark.parametrize('version', ['2.0', '2.0.0+cpu', '2.9.9'])
def test_versions_that_fit(monkeypatch, version):
    provide(monkeypatch, version)
    assert _check(FAKE) is None


@pytest.mark.parametrize('version', ['1.9', '2.0.0rc1', '3.0', '3.1'])
def test_versions_that_do_not(monkeypatch, version):
    provide(monkeypatch, version)
    with pytest.raises(ImportError) as error:
        _check(FAKE)
    text = str(error.value)
    assert 'needs fake_host>=2.0,<3, but ' in text
    assert text.endswith('pip install fake-host') and '\n' not in text


def test_a_missing_package_is_named():
    with pytest.raises(
        ImportError,
        match=r'needs fake_host>=2.0,<3, which '
        r'does not import.*pip install',
    ):
        _check(FAKE)


@pytest.mark.parametrize('package', ['mmdet', 'mmengine', 'torch'])
def test_importing_mmgwap_without_a_host_says_what_to_install(package):
    code = f'import sys; sys.modules[{package!r}] = None; import mmgwap'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f'ImportError: mmgwap needs {package}>=')


def test_mmcv_without_operators_is_told_apart():
    code = "import sys; sys.modules['mmcv._ext'] = None; import mmgwap"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('ImportError: mmgwap needs the compiled operators')
    assert 'mmcv==2.1.0' in last


def test_setup_asks_for_none_of_the_host(repo):
    text = (repo / 'setup.py').read_text()
    required = text.split('install_requires=')[1].split(']')[0]
    assert not any(name in required for name in ('torch', 'mm'))
