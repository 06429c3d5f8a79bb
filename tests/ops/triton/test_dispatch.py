"""When kernels run, and what is said when they can't."""

import subprocess
import sys

import pytest
import torch

from mmgwap.ops import triton as kernels
from mmgwap.ops.triton import dispatch


def run(code, **variables):
    import os

    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
        env=dict(os.environ, **variables),
    )


def test_an_unknown_mode_is_named():
    done = run('import mmgwap.ops', MMGWAP_KERNELS='none')
    assert done.returncode == 1
    assert done.stderr.strip().endswith("MMGWAP_KERNELS must be one of ('auto', 'off'), got 'none'")


@pytest.mark.gpu
@pytest.mark.parametrize('mode', ['auto', 'off'])
def test_the_variable_decides(mode):
    done = run(
        'import torch; from mmgwap.ops.triton import use_triton; '
        'print(use_triton(torch.ones(1, device="cuda")))',
        MMGWAP_KERNELS=mode,
    )
    assert done.stdout.strip() == str(mode == 'auto'), done.stderr


def test_a_cpu_takes_no_kernels_unasked():
    assert not kernels.use_triton(torch.ones(1))


def test_interpreting_needs_the_variable(monkeypatch):
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    with pytest.raises(RuntimeError, match='set TRITON_INTERPRET=1'):
        kernels.triton_interpreted()


def test_types_that_kernels_have_not(device):
    one = torch.ones(1, device=device)
    assert kernels.use_triton(one, one.double())
    assert not kernels.use_triton(one, one.int())
    assert not kernels.use_triton(one, torch.ones(1, device='meta'))


@pytest.mark.parametrize(
    'version, reason',
    [
        (None, r'Triton does not import \(.*\): lip2d and ps_roi_vote run as'),
        ('3.1.0', 'Triton 3.1.0 is older than 3.2: lip2d and'),
    ],
)
def test_what_is_missing_is_said_once(monkeypatch, device, version, reason, recwarn):
    import triton

    monkeypatch.setattr(dispatch, '_reasons', {})
    if version:
        monkeypatch.setattr(triton, '__version__', version)
    else:
        monkeypatch.setitem(sys.modules, 'triton', None)
    one = torch.ones(1, device=device)
    with pytest.warns(UserWarning, match=reason):
        assert not kernels.use_triton(one)
    recwarn.clear()
    assert not kernels.use_triton(one)
    assert not recwarn.list


@pytest.mark.skipif(torch.cuda.is_available(), reason='has what is missing')
def test_a_gpu_that_triton_cannot_serve(monkeypatch):
    pytest.importorskip('triton')
    gpu = torch.device('cuda', 0)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda _: 'Old GPU')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda _: (6, 1))
    assert dispatch._why_not(gpu) == ('Triton needs compute capability 7.0, Old GPU has 6.1')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda _: (9, 0))
    # There is no driver here, and there may be no compiler elsewhere.
    assert dispatch._why_not(gpu).startswith('Triton does not start (')
