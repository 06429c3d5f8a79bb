"""The kernels of voting against PyTorch's form and the loops."""

import pytest
import torch
from torch.autograd import gradcheck

pytest.importorskip('triton')

from mmgwap.ops import ps_roi_vote  # noqa: E402
from mmgwap.ops.bin_cells import CELL_MAJOR  # noqa: E402
from mmgwap.ops.ps_roi_pool import _bin_range  # noqa: E402
from mmgwap.ops.triton import triton_disabled  # noqa: E402
from mmgwap.ops.triton import vote as operator  # noqa: E402
from tests.ops.test_ps_roi import ALL_ROIS, HEIGHT, SCALE, WIDTH, make_map, random_rois  # noqa: E402
from tests.references import ps_roi as reference  # noqa: E402

# mode, sampling ratio
FORMS = [('pool', 2), ('align', 1), ('align', 2), ('align', 3)]
ROIS = torch.cat([ALL_ROIS, random_rois(4)])


@pytest.fixture(autouse=True)
def _launches(monkeypatch, device):
    """Refuses to pass where no kernel ran."""
    count = []
    real = operator._launch
    monkeypatch.setattr(operator, '_launch', lambda *args: (count.append(args), real(*args)))
    yield count
    assert count


def both(maps, rois, bins, *form):
    """Votes and gradients by the kernels, and in PyTorch's form."""
    found = []
    for off in (False, True):
        leaf = maps.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        if off:
            with triton_disabled():
                votes = ps_roi_vote(leaf, rois, bins, SCALE, *form)
        else:
            votes = ps_roi_vote(leaf, rois, bins, SCALE, *form)
        weight = (
            torch.arange(votes.numel(), device=maps.device).view(votes.shape).to(votes.dtype).cos()
        )
        votes.backward(weight)
        found.append((votes.detach(), leaf.grad))
    return found


@pytest.mark.parametrize('form', FORMS, ids=str)
def test_is_the_mean_of_the_loop(device, form):
    maps, rois = make_map(bins=2, dtype=torch.float64), ROIS.double()
    votes = ps_roi_vote(maps.to(device), rois.to(device), 2, SCALE, *form)
    pool = (
        reference.ps_roi_pool
        if form[0] == 'pool'
        else lambda *args: reference.ps_roi_align(*args, form[1])
    )
    wanted = pool(maps.numpy(), rois.numpy(), 2, SCALE).mean((2, 3))
    torch.testing.assert_close(votes.cpu(), torch.tensor(wanted), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('form', FORMS, ids=str)
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('bins', [1, 2, 3])
def test_is_the_torch_form(device, form, dtype, bins):
    maps = make_map(channels=3, bins=bins, dtype=dtype).to(device)
    ours, theirs = both(maps, ROIS.to(dtype).to(device), bins, *form)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize('form', [('pool', 2), ('align', 2)], ids=str)
def test_seven_bins(device, form):
    maps = make_map(channels=1, bins=7).to(device)
    ours, theirs = both(maps, ROIS[::4].to(device), 7, *form)
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize('channels', [4, 40, 130])
def test_blocks_of_channels(device, channels):
    maps = make_map(channels=channels, bins=2).to(device)
    for form in FORMS[::2]:
        ours, theirs = both(maps, ROIS[:5].to(device), 2, *form)
        for one, other in zip(ours, theirs):
            torch.testing.assert_close(one, other, rtol=0, atol=2e-6)


@pytest.mark.parametrize('form', FORMS[::2], ids=str)
def test_gradcheck(device, form):
    maps = make_map(channels=1, bins=1, dtype=torch.float64)[..., :2, :3]
    rois = torch.tensor([[0.0, 3, 2, 40, 30], [1, -8, 5, 20, 12]]).double()
    assert gradcheck(
        lambda x: ps_roi_vote(x, rois.to(device), 1, SCALE, *form),
        (maps.to(device).requires_grad_(),),
    )


@pytest.mark.parametrize('form', FORMS[::2], ids=str)
def test_bin_major_maps_are_read_where_they_lie(device, form, _launches):
    maps = make_map(channels=3, bins=2).unflatten(1, (3, 4))
    by_cell = maps.permute(CELL_MAJOR).contiguous().to(device)
    view = by_cell.permute(0, 4, 3, 1, 2).requires_grad_()
    votes = ps_roi_vote(view, ROIS.to(device), 2, SCALE, *form)
    assert _launches[0][1].data_ptr() == by_cell.data_ptr()
    wanted = ps_roi_vote(maps.flatten(1, 2).to(device), ROIS.to(device), 2, SCALE, *form)
    assert torch.equal(votes, wanted)
    votes.sum().backward()  # whose gradient is one number, expanded
    assert view.grad.permute(CELL_MAJOR).is_contiguous()
    (grad,) = torch.autograd.grad(
        ps_roi_vote(view, ROIS.to(device), 2, SCALE, *form), view, torch.ones_like(votes)
    )
    torch.testing.assert_close(view.grad, grad, rtol=0, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('form', FORMS[::2], ids=str)
def test_half_precision(device, dtype, form):
    maps = (make_map(bins=2) * 100).to(dtype).to(device)
    ours = both(maps, ROIS.to(device), 2, *form)[0]
    exact = both(maps.float(), ROIS.to(device), 2, *form)[1]
    for one, other in zip(ours, exact):
        assert one.dtype == dtype
        torch.testing.assert_close(one.float(), other, atol=1e-3, rtol=torch.finfo(dtype).eps)


def test_half_precision_does_not_overflow(device):
    maps = torch.full((2, 8, 9, 13), 60000.0, dtype=torch.float16)
    votes = ps_roi_vote(maps.to(device), ROIS[:3].to(device), 2, SCALE, 'pool')
    assert votes.eq(60000).all()


@pytest.mark.parametrize('form', FORMS[::2], ids=str)
def test_deterministic_gradients_take_no_atomics(device, form, _launches):
    maps = make_map(channels=3, bins=2).to(device)
    wanted = both(maps, ROIS.to(device), 2, *form)[1][1]
    del _launches[:]
    torch.use_deterministic_algorithms(True)
    try:
        grads = [both(maps, ROIS.to(device), 2, *form)[0][1] for _ in range(2)]
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(_launches) == 2  # two forward passes
    assert torch.equal(*grads)
    torch.testing.assert_close(grads[0], wanted, rtol=0, atol=2e-6)


def test_a_roi_of_no_image_is_nan(device):
    """Where rois can't be looked at first; without a read or a write."""
    maps = torch.randn(2, 4, 5, 4, 3, device=device, requires_grad=True)
    rois = ROIS[:4].clone()
    rois[:, 0] = torch.tensor([0, 2, -1, float('nan')])
    for deterministic in (False, True):
        votes = torch.ops.mmgwap.ps_roi_vote(maps, rois.to(device), 2, SCALE, 2)
        assert votes[1:].isnan().all() and votes[0].isfinite().all()
        torch.use_deterministic_algorithms(deterministic)
        try:
            (grad,) = torch.autograd.grad(votes[:1].sum() + votes[1:].sum(), maps)
        finally:
            torch.use_deterministic_algorithms(False)
        alone = torch.ops.mmgwap.ps_roi_vote(maps, rois[:1].to(device), 2, SCALE, 2)
        (wanted,) = torch.autograd.grad(alone.sum(), maps)
        assert wanted.ne(0).any()
        torch.testing.assert_close(grad, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('place', [1, 2, 3, 4])
def test_a_roi_that_is_not_finite_votes_zero(device, value, place):
    rois = ROIS[:2].clone()
    rois[1, place] = value
    for form in FORMS[::2]:
        votes = ps_roi_vote(make_map(bins=1).to(device), rois.to(device), 1, SCALE, *form)
        assert votes[1].eq(0).all() and votes[0].ne(0).any()


@pytest.mark.parametrize('images, count', [(2, 0), (0, 0)])
def test_nothing(device, images, count):
    maps = make_map(bins=2)[:images].to(device).requires_grad_()
    votes = ps_roi_vote(maps, torch.zeros(count, 5, device=device), 2, SCALE)
    assert votes.shape == (count, 2)
    votes.sum().backward()
    assert maps.grad.shape == maps.shape and maps.grad.eq(0).all()


def test_wide_indices_give_the_same(device, monkeypatch):
    import triton.language as tl

    maps = make_map(channels=3, bins=2).to(device)
    wanted = both(maps, ROIS.to(device), 2, 'pool')[0]
    monkeypatch.setattr(operator, '_index', lambda length: tl.int64)
    found = both(maps, ROIS.to(device), 2, 'pool')[0]
    for one, other in zip(found, wanted):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_an_inverted_roi_in_float64(device):
    """Where the least size of a RoI, 0.1 cells, decides."""
    maps = torch.arange(300.0).double().view(1, 1, 15, 20).to(device)
    rois = torch.tensor([[0.0, 49, 49, 20, 20]]).double().to(device)
    votes = ps_roi_vote(maps, rois, 1, 0.1, 'pool')
    with triton_disabled():
        wanted = ps_roi_vote(maps, rois, 1, 0.1, 'pool')
    assert torch.equal(votes, wanted)


def test_without_images_there_is_no_roi_of_one(device, _launches):
    maps = torch.randn(0, 5, 4, 4, 3, device=device)
    votes = torch.ops.mmgwap.ps_roi_vote(maps, ROIS[:2].to(device), 2, SCALE, 2)
    assert votes.shape == (2, 3) and votes.isnan().all()
    ps_roi_vote(make_map(bins=1).to(device), ROIS[:1].to(device), 1, SCALE)


@pytest.mark.parametrize('bins, scale', [(7, SCALE), (3, 0.1)])
def test_bins_are_cut_where_torch_cuts_them(device, bins, scale):
    """To the cell: on a GPU both divide and round in their own ways."""
    rois = random_rois(1000).to(device)
    cells, _ = operator._cut(rois, HEIGHT, WIDTH, bins, scale, 0)
    for axis, length in ((0, WIDTH), (1, HEIGHT)):
        first, count = _bin_range(rois[:, 1 + axis], rois[:, 3 + axis], bins, scale, length)
        filled = count.T > 0  # where an empty bin lies is nobody's business
        assert torch.equal(cells[:, axis, :, 1], count.T)
        assert torch.equal(cells[:, axis, :, 0][filled], first.T[filled])
    ps_roi_vote(make_map(bins=1).to(device), ROIS[:1].to(device), 1, SCALE)
