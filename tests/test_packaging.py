"""Files for mim in a wheel, a source archive and an editable install."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

FOLDERS = ('configs', 'tools', 'mmgwap')
FILES = 'README.md LICENSE MANIFEST.in model-index.yml pyproject.toml setup.py'.split()


@pytest.fixture
def checkout(repo, tmp_path):
    """Copy the packed files, and add a bytecode file that must not be packed."""
    for name in FOLDERS:
        shutil.copytree(repo / name, tmp_path / name)
    for name in FILES:
        shutil.copy(repo / name, tmp_path / name)
    shutil.rmtree(tmp_path / 'mmgwap' / '.mim', ignore_errors=True)
    bytecode = tmp_path / 'configs' / 'rfcn' / '__pycache__' / 'bytecode.pyc'
    bytecode.parent.mkdir(exist_ok=True)
    bytecode.write_bytes(b'')
    return tmp_path


def build(checkout, kind):
    """Build through setuptools as pip does; return the path of the result."""
    code = f'from setuptools import build_meta; print(build_meta.build_{kind}("dist"))'
    output = run_python('-c', code, cwd=checkout)
    return checkout / 'dist' / output.split()[-1]


def run_python(*args, cwd, **variables):
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=dict(os.environ, **variables),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def files_for_mim(folder):
    """Return the names of all files below a folder that mim may look for."""
    names = {
        path.relative_to(folder).as_posix()
        for part in ('configs', 'tools')
        for path in (folder / part).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }
    return names | {'model-index.yml'}


def test_wheel_contains_configs_tools_and_index(checkout):
    with zipfile.ZipFile(build(checkout, 'wheel')) as archive:
        names = set(archive.namelist())
        archive.extractall(checkout / 'site')
    prefix = 'mmgwap/.mim/'
    found = {name[len(prefix) :] for name in names if name.startswith(prefix)}
    assert found == files_for_mim(checkout)
    assert 'mmgwap/__init__.py' in names
    assert not [name for name in names if not name.startswith('mmgwap')]
    assert not (checkout / 'mmgwap' / '.mim').exists()
    # The tools of the wheel run outside any checkout.
    site = checkout / 'site'
    script = site / 'mmgwap/.mim/tools/train.py'
    assert '--cfg-options' in run_python(script, '--help', cwd=site, PYTHONPATH=str(site))


def test_wheel_can_be_built_from_a_source_archive(checkout):
    archive = build(checkout, 'sdist')
    with tarfile.open(archive) as opened:
        opened.extractall(checkout / 'unpacked', filter='data')
    (source,) = (checkout / 'unpacked').iterdir()
    assert files_for_mim(source) == files_for_mim(checkout)
    with zipfile.ZipFile(build(source, 'wheel')) as opened:
        assert 'mmgwap/.mim/configs/rfcn/rfcn_r18_digits.py' in opened.namelist()


def test_editable_install_makes_links(checkout):
    for _ in range(2):  # the second build finds the links of the first
        build(checkout, 'editable')
        folder = checkout / 'mmgwap' / '.mim'
        assert {path.name for path in folder.iterdir()} == {'configs', 'tools', 'model-index.yml'}
        for path in folder.iterdir():
            assert path.is_symlink()
            assert path.resolve() == checkout / path.name
    assert (checkout / 'configs/rfcn/rfcn_r18_digits.py').is_file()
    # A wheel has the files instead of the links.
    with zipfile.ZipFile(build(checkout, 'wheel')) as archive:
        names = [name for name in archive.namelist() if '.mim/' in name]
    assert len(names) == len(files_for_mim(checkout))
