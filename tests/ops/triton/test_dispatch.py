"""When kernels run, and the comparison with the PyTorch form at their first use."""

import re
import sys
from contextlib import nullcontext

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from mmgwap.ops import LIP2d, lip2d, ps_roi_vote
from mmgwap.ops import triton as kernels
from mmgwap.ops.triton import dispatch
from tests.ops.test_lip import maps
from tests.ops.test_ps_roi import ALL_ROIS, SCALE, make_map


def test_an_unknown_mode_is_named(tool):
    done = tool('-c', 'import mmgwap.ops', check=False, MMGWAP_KERNELS='none')
    assert done.returncode == 1
    assert re.search("MMGWAP_KERNELS .*got 'none'", done.stderr)


@pytest.mark.gpu
@pytest.mark.parametrize('mode', ['auto', 'off'])
def test_the_variable_decides(tool, mode):
    done = tool(
        '-c',
        'import torch; from mmgwap.ops.triton import use_triton; '
        'print(use_triton(torch.ones(1, device="cuda")))',
        MMGWAP_KERNELS=mode,
    )
    assert done.stdout.strip() == str(mode == 'auto'), done.stderr


def test_kernels_do_not_run_on_a_cpu_by_default():
    assert not kernels.use_triton(torch.ones(1))


def test_interpreting_needs_the_variable(monkeypatch):
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    with pytest.raises(RuntimeError, match='TRITON_INTERPRET=1'):
        kernels.triton_interpreted()


def test_unsupported_dtypes_and_devices(device):
    x = torch.ones(1, device=device)
    assert kernels.use_triton(x, x.double())
    assert not kernels.use_triton(x, x.int())
    assert not kernels.use_triton(x, torch.ones(1, device='meta'))
    with kernels.triton_disabled():
        assert not kernels.use_triton(x)


@pytest.mark.parametrize(
    'version, reason',
    [(None, r'Triton does not import \(.*\)'), ('3.1.0', 'Triton 3.1.0 is older than 3.2')],
)
def test_a_missing_triton_warns_once(monkeypatch, device, version, reason, recwarn):
    import triton

    monkeypatch.setattr(dispatch, '_unavailable', {})
    if version:
        monkeypatch.setattr(triton, '__version__', version)
    else:
        monkeypatch.setitem(sys.modules, 'triton', None)
    x = torch.ones(1, device=device)
    with pytest.warns(UserWarning, match=reason):
        assert not kernels.use_triton(x)
    recwarn.clear()
    assert not kernels.use_triton(x)
    assert not recwarn.list


@pytest.mark.skipif(torch.cuda.is_available(), reason='Triton starts on this GPU')
def test_a_gpu_that_triton_does_not_support(monkeypatch):
    pytest.importorskip('triton')
    gpu = torch.device('cuda', 0)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda _: 'Old GPU')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda _: (6, 1))
    assert 'capability 7.0, Old GPU has 6.1' in dispatch._why_unavailable(gpu)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda _: (9, 0))
    assert 'Triton does not start' in dispatch._why_unavailable(gpu)


class Kernel:
    """A kernel that fails, or doubles a result after the real kernel wrote it."""

    def __init__(self, real, error=None, doubled=None):
        self.real, self.error, self.doubled = real, error, doubled
        self.launches = 0

    def __getitem__(self, grid):
        def launch(*args, **options):
            self.launches += 1
            if self.error:
                raise self.error
            self.real[grid](*args, **options)
            if self.doubled is not None:
                args[self.doubled].mul_(2)

        return launch


@pytest.fixture
def patched(monkeypatch, device):
    """Replace a kernel, and compare kernels at their first use."""
    monkeypatch.setattr(dispatch, '_compare_first_use', True)
    monkeypatch.setattr(dispatch, '_matches', {})

    def patch(operator, name, **options):
        from mmgwap.ops.triton import lip_kernels, vote_kernels

        module = dict(lip2d=lip_kernels, ps_roi_vote=vote_kernels)[operator]
        kernel = Kernel(getattr(module, name), **options)
        monkeypatch.setattr(module, name, kernel)
        return kernel

    return patch


def call(operator, device, requires_grad=True, dtype=torch.float32, channels_last=False, size=2):
    """Run an operator on a small map: the result and, if asked for, the gradient.

    ``size`` is the size of the windows or the number of bins on each side.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    if operator == 'lip2d':
        x = maps(1, 2, 5, 6).to(device, dtype, memory_format=layout).requires_grad_(requires_grad)
        out = lip2d(x, x.detach() * 3, kernel_size=size)
    else:
        x = make_map(bins=size).to(device, dtype).requires_grad_(requires_grad)
        out = ps_roi_vote(x, ALL_ROIS[:2].to(device), size, SCALE, 'pool')
    return [out] + (list(torch.autograd.grad(out.sum(), x)) if requires_grad else [])


def expect_torch_form(operator, device, **options):
    with kernels.triton_disabled():
        expected = call(operator, device, **options)
    for result, wanted in zip(call(operator, device, **options), expected):
        assert torch.equal(result, wanted)


@pytest.mark.parametrize('operator, output', [('lip2d', 2), ('ps_roi_vote', 4)])
def test_a_wrong_kernel_warns_once_and_is_not_used(patched, device, operator, output, recwarn):
    kernel = patched(operator, 'forward', doubled=output)
    message = rf'{operator} of torch.float32.*, .*forward and backward on {device}.* differs by 1 '
    with pytest.warns(UserWarning, match=message):
        call(operator, device)
    launches = kernel.launches
    recwarn.clear()
    expect_torch_form(operator, device)
    assert kernel.launches == launches and not recwarn.list


@pytest.mark.parametrize('operator', ['lip2d', 'ps_roi_vote'])
@pytest.mark.parametrize('name', ['forward', 'backward'])
def test_a_kernel_that_does_not_compile_warns_and_is_not_used(patched, device, operator, name):
    patched(operator, name, error=RuntimeError('PassManager::run failed'))
    with pytest.warns(UserWarning, match=rf'{operator} of .*RuntimeError: PassManager::run failed'):
        expect_torch_form(operator, device)


def test_forward_alone_goes_on_with_a_wrong_backward(patched, device):
    patched('lip2d', 'backward', doubled=5)
    kernel = patched('lip2d', 'forward')
    with pytest.warns(UserWarning, match='forward and backward .*differs by'):
        call('lip2d', device)
    launches = kernel.launches
    call('lip2d', device, requires_grad=False)
    assert kernel.launches == launches + 2  # the comparison and the call


@pytest.mark.parametrize('operator', ['lip2d', 'ps_roi_vote'])
def test_a_right_kernel_is_compared_once_for_each_kind_of_call(patched, device, operator, recwarn):
    kernel = patched(operator, 'forward')
    for options in ({}, dict(dtype=torch.float16), dict(channels_last=True), dict(size=3)):
        for expected in (2, 1):
            if operator == 'ps_roi_vote' and options.get('channels_last'):
                expected = 1  # the kernel always reads cell-major maps
            launches = kernel.launches
            call(operator, device, **options)
            assert kernel.launches == launches + expected
    assert not [warning for warning in recwarn if 'Triton' in str(warning.message)]
    assert all(dispatch._matches.values())


@pytest.mark.parametrize('how', ['compile', 'export'])
@pytest.mark.parametrize('wrong', [False, True])
def test_a_compiler_compares_before_the_graph_is_made(patched, device, how, wrong):
    patched('lip2d', 'forward', doubled=2 if wrong else None)
    torch._dynamo.reset()
    x = maps(1, 2, 5, 6).to(device)
    targets = []

    def backend(graph, _):
        targets.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    with pytest.warns(UserWarning, match='differs by') if wrong else nullcontext():
        if how == 'compile':
            torch.compile(LIP2d(), backend=backend, fullgraph=True)(x, x)
        else:
            graph = torch.export.export(LIP2d(), (x, x)).graph
            targets.extend(str(node.target) for node in graph.nodes)
    assert list(dispatch._matches.values()) == [not wrong]
    assert any('mmgwap' in target for target in targets) is not wrong


def test_the_first_use_may_be_in_a_checkpoint_under_autocast(patched, device):
    patched('lip2d', 'forward')
    x = maps(1, 2, 5, 6).to(device).requires_grad_()
    with torch.autocast(device, torch.bfloat16):
        out = checkpoint(lambda x: lip2d(x.sin(), x), x, use_reentrant=False)
    out.sum().backward()
    assert list(dispatch._matches.values()) == [True]
    assert x.grad.ne(0).any()
