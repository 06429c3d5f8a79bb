"""LIP's kernels against the loop over the formula and PyTorch's form."""

import pytest
import torch
from torch.autograd import gradcheck

pytest.importorskip('triton')

from mmgwap.ops import lip2d  # noqa: E402
from mmgwap.ops.triton import lip_kernels, triton_disabled  # noqa: E402
from tests.ops.test_lip import WINDOWS, assert_near, gap, loop, maps, results, weights  # noqa: E402

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

    def pool(x, logit):
        return lip2d(x, logit, *windows)

    found = results(pool, x, logit)
    with triton_disabled():
        return found, results(pool, x, logit)


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
    assert all(result.is_contiguous(memory_format=layout) for result in ours)
    assert_near(ours, theirs, 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize('windows', [(3, 2, 1), (2, 2, 0, True)], ids=str)
def test_gradcheck(device, windows):
    x, logit = (maps(1, 1, 3, 4, seed=seed).to(device).requires_grad_() for seed in range(2))
    assert gradcheck(lambda *leaves: lip2d(*leaves, *windows), (x, logit))


@pytest.mark.parametrize('shape', [(2, 1, 7, 6), (1, 3, 7, 6), (1, 1, 1, 1)], ids=str)
def test_logit_broadcasts(device, shape):
    x, logit = maps(2, 3, 7, 6).to(device), maps(*shape, seed=1).to(device)
    assert_near(*both(x, logit), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize('layout', LAYOUTS, ids=NAMES)
def test_more_rows_and_columns_than_one_program_takes(device, layout, _launches):
    x, logit = (
        maps(1, 12, 19, 50, seed=seed).to(device).contiguous(memory_format=layout)
        for seed in range(2)
    )
    assert_near(*both(x, logit), 1e-12)
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
            assert gap(ours[2].cpu(), theirs[2].cpu()) < 1e-13


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
        assert gap(one.cpu().double(), other.cpu()) < error * max(1, other.abs().max().item())


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
    wanted = results(lip2d, x, logit)
    out = lip2d(x, logit.requires_grad_())
    weight = weights(out)
    out.mul_(2).backward(weight / 2)
    assert gap(logit.grad.cpu(), wanted[2].cpu()) < 1e-14


def test_64_bit_indices_give_the_same(device, monkeypatch, _launches):
    import triton.language as tl

    from mmgwap.ops.triton import lip

    x, logit = (maps(2, 3, 9, 8, seed=seed).to(device) for seed in range(2))
    wanted = results(lip2d, x, logit)
    monkeypatch.setattr(lip, '_extent', lambda tensor: 2**31)
    for one, other in zip(results(lip2d, x, logit), wanted):
        assert torch.equal(one, other)
    assert [options['INDEX'] for _, options in _launches] == [tl.int32, tl.int64]


def test_arithmetic_has_the_wider_of_two_dtypes(device):
    x, logit = (maps(2, 3, 9, 8, seed=seed).to(device) for seed in range(2))
    ours, exact = both(x.float(), logit)[0], both(x.float().double(), logit)[1]
    assert [one.dtype for one in ours] == [torch.float32] * 2 + [torch.float64]
    assert gap(ours[2].cpu(), exact[2].cpu()) < 1e-12


def test_unneeded_gradients_are_not_computed(device):
    x, logit = (maps(1, 2, 6, 6, seed=seed).to(device) for seed in range(2))
    wanted = results(lip2d, x, logit)
    alone = x.clone().requires_grad_()
    out = lip2d(alone, logit)
    out.backward(weights(out))
    assert torch.equal(alone.grad, wanted[1])
    keep = torch.ops.mmgwap.lip2d(x, logit, [3, 3], [2, 2], [1, 1], False, False, 0.0)
    assert keep[1].numel() == keep[2].numel() == 0
    assert torch.equal(keep[0], wanted[0])


@pytest.mark.parametrize('layout', LAYOUTS, ids=NAMES)
@pytest.mark.parametrize('gate', [12.0, 100.0])
def test_gate_equals_a_scaled_sigmoid(device, layout, gate):
    x, raw = (
        maps(2, 3, 7, 6, scale=4.0, seed=seed).to(device).contiguous(memory_format=layout)
        for seed in range(2)
    )
    found = results(lambda x, raw: lip2d(x, raw, gate=gate), x, raw)
    wanted = results(lambda x, raw: lip2d(x, gate * raw.sigmoid()), x, raw)
    assert_near(found, wanted, 1e-10)


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
    wanted = results(lip2d, x, logit)

    def pack(tensor):
        return tensor.contiguous() if tensor.numel() >= x.numel() else tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found = results(lip2d, x, logit)
    assert_near(found, wanted, 1e-14)


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
