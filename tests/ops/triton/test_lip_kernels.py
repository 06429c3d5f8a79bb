"""LIP's kernels against the loop over the formula and PyTorch's form."""

import pytest
import torch
from torch.autograd import gradcheck

pytest.importorskip('triton')

from mmgwap.ops import lip2d  # noqa: E402
from mmgwap.ops.triton import lip_kernels, triton_disabled, use_triton  # noqa: E402
from tests.ops.test_lip import WINDOWS, gap, loop, maps  # noqa: E402

LAYOUTS = [torch.contiguous_format, torch.channels_last]
# Each of kernel, stride, padding and ceil_mode in several values; all windows are in test_lip.py.
FEW_WINDOWS = [(3, 2, 1, False), ((3, 2), (2, 1), (1, 0), False), (3, 5, 1, True), (2, 2, 0, True)]
NAMES = ['nchw', 'channels_last']


@pytest.fixture(autouse=True)
def _launches(monkeypatch, device):
    """Record grids and options of the launches; fail where no kernel ran."""
    count = []
    real = lip_kernels.forward

    class Counting:
        def __getitem__(self, grid):
            def launch(*args, **options):
                count.append((grid, options))
                return real[grid](*args, **options)

            return launch

    monkeypatch.setattr(lip_kernels, 'forward', Counting())
    yield count
    assert count


def both(x, logit, *windows):
    """Return results and gradients of the kernels, and of PyTorch's form."""
    found = []
    for form in ('kernels', 'torch'):
        leaves = [
            one.detach().clone(memory_format=torch.preserve_format).requires_grad_()
            for one in (x, logit)
        ]
        if form == 'torch':
            with triton_disabled():
                out = lip2d(*leaves, *windows)
        else:
            out = lip2d(*leaves, *windows)
        out.backward(weights(out))
        found.append((out, leaves[0].grad, leaves[1].grad))
    return found


def weights(out):
    """Return a gradient of the result, equal for all dtypes but half precision."""
    place = torch.arange(out.numel(), device=out.device).view(out.shape)
    return place.float().sin().to(out.dtype)


@pytest.mark.parametrize('windows', WINDOWS, ids=str)
def test_values_equal_the_loop(device, windows):
    x, logit = maps(1, 3, 9, 7), maps(1, 3, 9, 7, scale=5.0, seed=1)
    out = lip2d(x.to(device), logit.to(device), *windows)
    wanted = loop(x, logit, *windows)
    assert out.shape == wanted.shape
    assert gap(out.cpu(), wanted) < 1e-12


@pytest.mark.parametrize('windows', FEW_WINDOWS, ids=str)
@pytest.mark.parametrize('layout', LAYOUTS, ids=NAMES)
@pytest.mark.parametrize('spread', [1.0, 300.0])
def test_values_and_gradients_equal_the_torch_form(device, windows, layout, spread):
    x, logit = (
        one.contiguous(memory_format=layout).to(device)
        for one in (maps(2, 3, 7, 6), maps(2, 3, 7, 6, scale=spread, seed=1))
    )
    ours, theirs = both(x, logit, *windows)
    for result, wanted in zip(ours, theirs):
        assert result.is_contiguous(memory_format=layout)
        assert gap(result.cpu(), wanted.detach().cpu()) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize('windows', [(3, 2, 1), (2, 2, 0, True)], ids=str)
def test_gradcheck(device, windows):
    x, logit = (maps(1, 1, 3, 4, seed=seed).to(device).requires_grad_() for seed in range(2))
    assert gradcheck(lambda *leaves: lip2d(*leaves, *windows), (x, logit))


@pytest.mark.parametrize('shape', [(2, 1, 7, 6), (1, 3, 7, 6), (1, 1, 1, 1)], ids=str)
def test_a_logit_that_broadcasts(device, shape):
    x, logit = maps(2, 3, 7, 6).to(device), maps(*shape, seed=1).to(device)
    ours, theirs = both(x, logit)
    for result, wanted in zip(ours, theirs):
        assert result.shape == wanted.shape
        assert gap(result.cpu(), wanted.detach().cpu()) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize('layout', LAYOUTS, ids=NAMES)
def test_more_rows_and_columns_than_one_program_takes(device, layout, _launches):
    x, logit = (
        maps(1, 12, 19, 50, seed=seed).to(device).contiguous(memory_format=layout)
        for seed in range(2)
    )
    ours, theirs = both(x, logit)
    for result, wanted in zip(ours, theirs):
        assert gap(result.cpu(), wanted.detach().cpu()) < 1e-12
    assert _launches[0][0][0] >= 2 * (3 if layout == LAYOUTS[0] else 1)


def test_layouts_may_differ_and_maps_have_gaps(device):
    x, logit = maps(2, 4, 9, 8).to(device), maps(2, 4, 9, 8, seed=1).to(device)
    wanted = lip2d(x, logit)
    last = logit.contiguous(memory_format=torch.channels_last)
    wide = torch.stack([x, x + 1], dim=-1)[..., 0]
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert not wide.is_contiguous() and not turned.is_contiguous()
    for one in (wide, turned):
        for other in (logit, last):
            ours, theirs = both(one, other)
            assert gap(ours[0].cpu(), wanted.cpu()) < 1e-14
            assert gap(ours[2].cpu(), theirs[2].detach().cpu()) < 1e-13


@pytest.mark.parametrize(
    'dtype, error', [(torch.float32, 3e-6), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)]
)
@pytest.mark.parametrize('float32_logit', [True, False])
def test_dtypes_are_near_float64(device, dtype, error, float32_logit):
    x = maps(2, 4, 9, 8).to(dtype)
    logit = (12 * maps(2, 4, 9, 8, seed=1).sigmoid()).to(torch.float32 if float32_logit else dtype)
    ours = both(x.to(device), logit.to(device))[0]
    exact = both(x.double().to(device), logit.double().to(device))[1]
    assert ours[0].dtype == ours[1].dtype == dtype
    assert ours[2].dtype == logit.dtype
    for one, other in zip(ours, exact):
        assert gap(one.cpu().double(), other.detach().cpu()) < error * max(
            1, other.abs().max().item()
        )


@pytest.mark.parametrize('logit', [-3e38, 88.0, 3e38])
def test_any_finite_logit_of_float32(device, logit):
    x = maps(1, 2, 8, 8, dtype=torch.float32).to(device).requires_grad_()
    logits = torch.full_like(x, logit, requires_grad=True)
    out = lip2d(x, logits)
    wanted = torch.nn.functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    assert gap(out.cpu(), wanted.detach().cpu()) < 1e-6
    out.sum().backward()
    assert x.grad.isfinite().all() and logits.grad.isfinite().all()


def test_a_result_may_be_changed_in_place(device):
    x, logit = (maps(1, 2, 6, 6, seed=seed).to(device) for seed in range(2))
    ours = both(x, logit)[0]
    leaves = [one.clone().requires_grad_() for one in (x, logit)]
    out = lip2d(*leaves)
    weight = weights(out)
    out.mul_(2).backward(weight / 2)
    assert gap(leaves[1].grad.cpu(), ours[2].cpu()) < 1e-14


def test_64_bit_indices_give_the_same(device, monkeypatch, _launches):
    import triton.language as tl

    from mmgwap.ops.triton import lip

    x, logit = (maps(2, 3, 9, 8, seed=seed).to(device) for seed in range(2))
    wanted = both(x, logit)[0]
    monkeypatch.setattr(lip, '_extent', lambda tensor: 2**31)
    for one, other in zip(both(x, logit)[0], wanted):
        assert torch.equal(one, other)
    assert [options['INDEX'] for _, options in _launches] == [tl.int32, tl.int64]


def test_the_wider_type_counts(device):
    x, logit = (maps(2, 3, 9, 8, seed=seed).to(device) for seed in range(2))
    ours, exact = both(x.float(), logit)[0], both(x.float().double(), logit)[1]
    assert [one.dtype for one in ours] == [torch.float32] * 2 + [torch.float64]
    assert gap(ours[2].cpu(), exact[2].detach().cpu()) < 1e-12


def test_no_gradient_is_computed_that_is_not_needed(device):
    x, logit = (maps(1, 2, 6, 6, seed=seed).to(device) for seed in range(2))
    wanted = both(x, logit)[0]
    alone = x.clone().requires_grad_()
    out = lip2d(alone, logit)
    out.backward(weights(out))
    assert torch.equal(alone.grad, wanted[1])
    keep = torch.ops.mmgwap.lip2d(x, logit, [3, 3], [2, 2], [1, 1], False, False, 0.0)
    assert keep[1].numel() == keep[2].numel() == 0
    assert torch.equal(keep[0], wanted[0])


def test_triton_can_be_disabled(device):
    x = maps(1, 1, 4, 4).to(device)
    assert use_triton(x)
    with triton_disabled():
        assert not use_triton(x)
        out = lip2d(x, x)
    assert gap(lip2d(x, x).cpu(), out.cpu()) < 1e-14


@pytest.mark.parametrize('layout', LAYOUTS, ids=NAMES)
@pytest.mark.parametrize('gate', [12.0, 100.0])
def test_the_gate_is_the_sigmoid(device, layout, gate):
    x, raw = (
        maps(2, 3, 7, 6, scale=4.0, seed=seed).to(device).contiguous(memory_format=layout)
        for seed in range(2)
    )
    found = []
    for inside in (True, False):
        leaves = [one.clone().requires_grad_() for one in (x, raw)]
        out = lip2d(*leaves, gate=gate) if inside else lip2d(leaves[0], gate * leaves[1].sigmoid())
        out.backward(weights(out))
        found.append((out, leaves[0].grad, leaves[1].grad))
    for one, other in zip(*found):
        assert gap(one.cpu(), other.detach().cpu()) < 1e-10


@pytest.mark.parametrize('logit, error', [(0.0, 1e-6), (1e3, 1e-4), (1e4, 1e-3)])
def test_gradients_of_large_logits(device, logit, error):
    """The weights of the cells of a window sum to 1."""
    x = maps(1, 2, 8, 8, dtype=torch.float32).to(device).requires_grad_()
    out = lip2d(x, torch.full_like(x, logit))
    out.sum().backward()
    assert abs(x.grad.sum().item() / out.numel() - 1) < error


def test_saved_tensors_may_come_back_in_another_layout(device):
    x, logit = (
        maps(2, 4, 9, 8, seed=seed).to(device).contiguous(memory_format=torch.channels_last)
        for seed in range(2)
    )
    wanted = both(x, logit)[0]

    def pack(tensor):
        return tensor.contiguous() if tensor.numel() >= x.numel() else tensor

    leaves = [one.clone().requires_grad_() for one in (x, logit)]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one):
        out = lip2d(*leaves)
    out.backward(weights(out))
    for leaf, grad in zip(leaves, wanted[1:]):
        assert gap(leaf.grad.cpu(), grad.cpu()) < 1e-14


def test_backward_without_keep_is_named(device):
    x, logit = (maps(1, 1, 4, 4, seed=seed).to(device).requires_grad_() for seed in range(2))
    out = torch.ops.mmgwap.lip2d(x, logit, [3, 3], [2, 2], [1, 1], False, False, 0.0)[0]
    with pytest.raises(RuntimeError, match='keep=False'):
        out.sum().backward()


@pytest.mark.slow
def test_large_windows_take_no_kernel(device, _launches):
    x = maps(1, 1, 16, 16).to(device)
    lip2d(x, x, 7, 2, 3)
    assert len(_launches) == 1
    lip2d(x, x, 8, 2, 3)
    assert len(_launches) == 1
