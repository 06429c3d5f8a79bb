"""Versions of the packages that mmgwap needs."""

import re
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


def test_this_environment_fits():
    assert check_host() is None


@pytest.mark.parametrize('version', ['2.0', '2.0.0+cpu', '2.9.9'])
def test_accepts_versions(monkeypatch, version):
    provide(monkeypatch, version)
    assert _check(FAKE) is None


@pytest.mark.parametrize('version', ['1.9', '2.0.0rc1', '3.0', '3.1'])
def test_refuses_versions(monkeypatch, version):
    provide(monkeypatch, version)
    with pytest.raises(ImportError) as error:
        _check(FAKE)
    assert 'fake_host>=2.0,<3, but ' in str(error.value) and '\n' not in str(error.value)


def test_names_a_missing_package():
    with pytest.raises(ImportError, match='fake_host>=2.0,<3, .*not import.*pip install'):
        _check(FAKE)


@pytest.mark.parametrize(
    'module, message',
    [
        ('mmdet', 'mmgwap needs mmdet>='),
        ('torch', 'mmgwap needs torch>='),
        ('mmcv._ext', 'mmgwap needs the compiled operators .*mmcv==2.1.0'),
    ],
)
def test_import_names_what_to_install(module, message):
    code = f'import sys; sys.modules[{module!r}] = None; import mmgwap'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert re.match(f'ImportError: {message}', last)


def test_setup_requires_neither_torch_nor_mmdet(repo):
    text = (repo / 'setup.py').read_text()
    required = text.split('install_requires=')[1].split(']')[0]
    assert not any(name in required for name in ('torch', 'mm'))
