"""The kernels of voting against PyTorch's form and the loops."""

from contextlib import nullcontext

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
FORMS = [('pool', 2), ('align', 2)]
ROIS = torch.cat([ALL_ROIS, random_rois(2)])


@pytest.fixture(autouse=True)
def launches(monkeypatch, device):
    """Record the launches; fail where no kernel ran."""
    calls = []
    real = operator._launch
    monkeypatch.setattr(operator, '_launch', lambda *args: (calls.append(args), real(*args)))
    yield calls
    assert calls


@pytest.fixture(params=FORMS, ids=str)
def form(request):
    """Mode and sampling ratio."""
    return request.param


def both(maps, rois, bins, *form):
    """Return votes and gradients of the kernels, and of PyTorch's form."""
    results = []
    for disabled in (False, True):
        leaf = maps.detach().clone().requires_grad_()
        with triton_disabled() if disabled else nullcontext():
            votes = ps_roi_vote(leaf, rois, bins, SCALE, *form)
        weight = torch.arange(votes.numel(), device=maps.device).view(votes.shape)
        votes.backward(weight.to(votes.dtype).cos())
        results.append((votes.detach(), leaf.grad))
    return results


def vote_operator(maps, rois, bins, samples):
    """Call the custom operators, without a check of the RoIs."""
    cells = torch.ops.mmgwap.ps_roi_bins(rois, *maps.shape[1:3], bins, SCALE, samples)
    return torch.ops.mmgwap.ps_roi_vote(maps, rois, *cells, bins, SCALE, samples)


def assert_near(results, expected, atol):
    for result, wanted in zip(results, expected):
        torch.testing.assert_close(result, wanted, rtol=0, atol=atol)


def test_vote_is_the_mean_of_the_loop(device, form):
    maps, rois = make_map(bins=2, dtype=torch.float64), ROIS.double()
    votes = ps_roi_vote(maps.to(device), rois.to(device), 2, SCALE, *form)
    pool = reference.ps_roi_pool if form[0] == 'pool' else reference.ps_roi_align
    args = (maps.numpy(), rois.numpy(), 2, SCALE) + (() if form[0] == 'pool' else form[1:])
    wanted = torch.tensor(pool(*args).mean((2, 3)))
    torch.testing.assert_close(votes.cpu(), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    'form, bins, dtype, tolerance',
    [
        (('pool', 2), 2, torch.float64, 1e-12),
        (('pool', 2), 7, torch.float32, 2e-6),
        (('align', 2), 1, torch.float64, 1e-12),
        (('align', 2), 7, torch.float32, 2e-6),
        (('align', 3), 2, torch.float32, 2e-6),
    ],
    ids=str,
)
def test_values_and_gradients_equal_the_torch_form(device, form, bins, dtype, tolerance):
    maps = make_map(channels=1 if bins == 7 else 3, bins=bins, dtype=dtype).to(device)
    rois = ROIS[:: 6 if bins == 7 else 1].to(dtype).to(device)
    assert_near(*both(maps, rois, bins, *form), tolerance)


@pytest.mark.parametrize('channels', [40, 130])
def test_blocks_of_channels(device, channels, form):
    maps = make_map(channels=channels, bins=2).to(device)
    assert_near(*both(maps, ROIS[:3].to(device), 2, *form), 2e-6)


def test_gradcheck(device, form):
    maps = make_map(channels=1, bins=1, dtype=torch.float64)[..., :2, :3]
    rois = torch.tensor([[0.0, 3, 2, 40, 30], [1, -8, 5, 20, 12]]).double()
    assert gradcheck(
        lambda x: ps_roi_vote(x, rois.to(device), 1, SCALE, *form),
        (maps.to(device).requires_grad_(),),
    )


def test_several_maps_share_their_bins(device, form, monkeypatch):
    cuts = []
    real = operator.ps_roi_bins
    monkeypatch.setattr(operator, 'ps_roi_bins', lambda *args: (cuts.append(args), real(*args))[1])
    maps = [make_map(channels=channels, bins=2, seed=channels).to(device) for channels in (3, 2)]
    rois = ROIS[:3].to(device)
    votes = ps_roi_vote(maps, rois, 2, SCALE, *form)
    assert len(cuts) == 1
    for vote, one in zip(votes, maps):
        assert torch.equal(vote, ps_roi_vote(one, rois, 2, SCALE, *form))


def test_cell_major_maps_are_read_without_a_copy(device, form, launches):
    maps = make_map(channels=3, bins=2).unflatten(1, (3, 4))
    rois = ROIS[:6].to(device)
    cell_major = maps.permute(CELL_MAJOR).contiguous().to(device)
    view = cell_major.permute(0, 4, 3, 1, 2).requires_grad_()
    votes = ps_roi_vote(view, rois, 2, SCALE, *form)
    assert launches[0][1].data_ptr() == cell_major.data_ptr()
    wanted = ps_roi_vote(maps.flatten(1, 2).to(device), rois, 2, SCALE, *form)
    assert torch.equal(votes, wanted)
    (grad,) = torch.autograd.grad(votes, view, torch.ones_like(votes), retain_graph=True)
    votes.sum().backward()  # with an expanded gradient, of stride 0
    assert view.grad.permute(CELL_MAJOR).is_contiguous()
    torch.testing.assert_close(view.grad, grad, rtol=0, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(device, dtype, form):
    maps = (make_map(bins=2) * 100).to(dtype).to(device)
    rois = ROIS[:6].to(device)
    results = both(maps, rois, 2, *form)[0]
    exact = both(maps.float(), rois, 2, *form)[1]
    for result, wanted in zip(results, exact):
        assert result.dtype == dtype
        torch.testing.assert_close(result.float(), wanted, atol=1e-3, rtol=torch.finfo(dtype).eps)


def test_half_precision_does_not_overflow(device):
    maps = torch.full((2, 8, 9, 13), 60000.0, dtype=torch.float16)
    votes = ps_roi_vote(maps.to(device), ROIS[:3].to(device), 2, SCALE, 'pool')
    assert votes.eq(60000).all()


def test_deterministic_gradients_use_no_atomics(device, form, launches):
    maps, rois = make_map(channels=3, bins=2).to(device), ROIS[:6].to(device)
    wanted = both(maps, rois, 2, *form)[1][1]
    launches.clear()
    torch.use_deterministic_algorithms(True)
    try:
        grads = [both(maps, rois, 2, *form)[0][1] for _ in range(2)]
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(launches) == 2  # two forward passes
    assert torch.equal(*grads)
    torch.testing.assert_close(grads[0], wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize('deterministic', [False, True])
def test_a_batch_index_outside_the_batch_gives_nan(device, deterministic):
    """Without reading or writing outside the maps."""
    maps = torch.randn(2, 5, 4, 4, 3, device=device, requires_grad=True)
    rois = ROIS[:4].clone().to(device)
    rois[:, 0] = torch.tensor([0, 2, -1, float('nan')])
    votes = vote_operator(maps, rois, 2, 2)
    assert votes[1:].isnan().all() and votes[0].isfinite().all()
    torch.use_deterministic_algorithms(deterministic)
    try:
        (grad,) = torch.autograd.grad(votes[:1].sum() + votes[1:].sum(), maps)
    finally:
        torch.use_deterministic_algorithms(False)
    (wanted,) = torch.autograd.grad(vote_operator(maps, rois[:1], 2, 2).sum(), maps)
    assert wanted.ne(0).any()
    torch.testing.assert_close(grad, wanted, rtol=0, atol=1e-6)


def test_rois_that_are_not_finite_vote_zero(device, form):
    values = torch.tensor([float('nan'), float('inf'), -float('inf')])
    rois = ROIS[:1].repeat(13, 1)
    for index in range(12):
        rois[index + 1, 1 + index // 3] = values[index % 3]
    votes = ps_roi_vote(make_map(bins=1).to(device), rois.to(device), 1, SCALE, *form)
    assert votes[1:].eq(0).all() and votes[0].ne(0).any()


@pytest.mark.parametrize('images', [2, 0])
def test_no_rois(device, images):
    maps = make_map(bins=2)[:images].to(device).requires_grad_()
    votes = ps_roi_vote(maps, torch.zeros(0, 5, device=device), 2, SCALE)
    assert votes.shape == (0, 2)
    votes.sum().backward()
    assert maps.grad.shape == maps.shape and maps.grad.eq(0).all()


def test_rois_without_images_give_nan(device, launches):
    votes = vote_operator(torch.randn(0, 5, 4, 4, 3, device=device), ROIS[:2].to(device), 2, 2)
    assert votes.shape == (2, 3) and votes.isnan().all()
    launches.append('no kernel needed')


def test_64_bit_indices_give_the_same(device, monkeypatch):
    import triton.language as tl

    maps, rois = make_map(channels=3, bins=2).to(device), ROIS[:6].to(device)
    wanted = both(maps, rois, 2, 'pool')[0]
    monkeypatch.setattr(operator, '_index_dtype', lambda size: tl.int64)
    assert_near(both(maps, rois, 2, 'pool')[0], wanted, 1e-6)


def test_an_inverted_roi_in_float64(device):
    """The minimum size of an RoI, 0.1 cells, decides which cells the bin covers."""
    maps = torch.arange(300.0).double().view(1, 1, 15, 20).to(device)
    rois = torch.tensor([[0.0, 49, 49, 20, 20]]).double().to(device)
    votes = ps_roi_vote(maps, rois, 1, 0.1, 'pool')
    with triton_disabled():
        wanted = ps_roi_vote(maps, rois, 1, 0.1, 'pool')
    assert torch.equal(votes, wanted)


@pytest.mark.parametrize('bins, scale', [(7, SCALE), (3, 0.1)])
def test_bins_equal_those_of_the_torch_form(device, bins, scale, launches):
    """To the cell: on a GPU both divide and round in their own ways."""
    rois = random_rois(1000).to(device)
    cells, _ = operator.ps_roi_bins(rois, HEIGHT, WIDTH, bins, scale, 0)
    for axis, length in ((0, WIDTH), (1, HEIGHT)):
        first, count = _bin_range(rois[:, 1 + axis], rois[:, 3 + axis], bins, scale, length)
        filled = count.T > 0  # the position of an empty bin does not matter
        assert torch.equal(cells[:, axis, :, 1], count.T)
        assert torch.equal(cells[:, axis, :, 0][filled], first.T[filled])
    launches.append('bins alone')
