"""Files for mim in a wheel, a source archive and an editable install."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

PARTS = (
    'configs',
    'tools',
    'mmgwap',
    'README.md',
    'LICENSE',
    'MANIFEST.in',
    'model-index.yml',
    'pyproject.toml',
    'setup.py',
)


@pytest.fixture
def checkout(repo, tmp_path):
    """Copy the packed files, and add a bytecode file that must not be packed."""
    for name in PARTS:
        copy = shutil.copytree if (repo / name).is_dir() else shutil.copy
        copy(repo / name, tmp_path / name)
    shutil.rmtree(tmp_path / 'mmgwap' / '.mim', ignore_errors=True)
    bytecode = tmp_path / 'configs' / 'rfcn' / '__pycache__' / 'bytecode.pyc'
    bytecode.parent.mkdir(exist_ok=True)
    bytecode.write_bytes(b'')
    return tmp_path


def build(checkout, kind):
    """Build through setuptools as pip does; return the path of the result."""
    code = (
        'import sys; from setuptools import build_meta; '
        f'print(build_meta.build_{kind}(sys.argv[1]))'
    )
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code, checkout / 'dist'],
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return checkout / 'dist' / done.stdout.split()[-1]


def files_for_mim(folder):
    """Return the names of all files below a folder that mim may look for."""
    names = {
        path.relative_to(folder).as_posix()
        for part in ('configs', 'tools')
        for path in (folder / part).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }
    return names | {'model-index.yml'}


def test_a_wheel_holds_configs_tools_and_index(repo, checkout):
    wheel = build(checkout, 'wheel')
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(checkout / 'site')
    prefix = 'mmgwap/.mim/'
    assert {name[len(prefix) :] for name in names if name.startswith(prefix)} == files_for_mim(
        checkout
    )
    assert 'mmgwap/__init__.py' in names
    assert not [name for name in names if not name.startswith('mmgwap')]
    assert not (checkout / 'mmgwap' / '.mim').exists()
    check_train(checkout / 'site')


def check_train(site):
    """Run tools/train.py of the wheel outside any checkout."""
    script = site / 'mmgwap/.mim/tools/train.py'
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', script, '--help'],
        cwd=site,
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(site)),
    )
    assert done.returncode == 0 and '--cfg-options' in done.stdout


def test_a_source_archive_is_enough_for_a_wheel(checkout):
    archive = build(checkout, 'sdist')
    with tarfile.open(archive) as opened:
        opened.extractall(checkout / 'unpacked', filter='data')
    (source,) = (checkout / 'unpacked').iterdir()
    assert files_for_mim(source) == files_for_mim(checkout)
    with zipfile.ZipFile(build(source, 'wheel')) as opened:
        assert 'mmgwap/.mim/configs/rfcn/rfcn_r18_digits.py' in opened.namelist()


def test_an_editable_install_links(checkout):
    for _ in range(2):  # the second build finds the links of the first
        build(checkout, 'editable')
        folder = checkout / 'mmgwap' / '.mim'
        assert {path.name for path in folder.iterdir()} == {'configs', 'tools', 'model-index.yml'}
        for path in folder.iterdir():
            assert path.is_symlink()
            assert path.resolve() == checkout / path.name
    assert (checkout / 'configs/rfcn/rfcn_r18_digits.py').is_file()


def test_links_of_an_editable_install_do_not_reach_a_wheel(checkout):
    build(checkout, 'editable')
    with zipfile.ZipFile(build(checkout, 'wheel')) as archive:
        names = [name for name in archive.namelist() if '.mim/' in name]
    assert len(names) == len(files_for_mim(checkout))
