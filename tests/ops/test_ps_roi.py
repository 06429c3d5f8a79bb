"""The position-sensitive RoI operators against loops over their formulas."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from mmgwap.ops import PSRoIAlign, PSRoIPool, PSRoIVote, ps_roi_align, ps_roi_pool, ps_roi_vote
from tests.references import ps_roi as reference

SCALE = 1 / 16
HEIGHT, WIDTH = 9, 13  # of the map: 144 x 208 pixels

# (batch index, x1, y1, x2, y2)
ROIS = dict(
    inside=[0, 20.3, 30.7, 120.2, 100.9],
    other_image=[1, 20.3, 30.7, 120.2, 100.9],
    whole_image=[0, 0, 0, 207, 143],
    at_the_far_corner=[1, 192, 128, 207, 143],
    over_every_border=[0, -40.5, -33.3, 260.1, 190.2],
    half_outside=[1, 150.5, 100.5, 300, 300],
    outside=[0, 400, 400, 500, 500],
    outside_negative=[1, -300, -300, -200, -200],
    smaller_than_a_cell=[0, 50.2, 50.2, 53.1, 54.8],
    a_point=[1, 64, 64, 64, 64],
    halves=[0, 0.5, 1.5, 63.5, 62.5],
    negative_halves=[0, -8.5, -0.5, 40.5, 31.5],
    inverted=[1, 100, 90, 40, 30],
    a_point_beside_a_cell=[1, 79, 79, 79, 79],  # whose tenth reaches into it
)
ALL_ROIS = torch.tensor(list(ROIS.values()))
OPERATORS = [
    ps_roi_pool,
    ps_roi_align,
    lambda *args: ps_roi_vote(*args, mode='pool'),
    lambda *args: ps_roi_vote(*args, mode='align'),
    lambda *args: ps_roi_align(*args, sampling_ratio=0),
]
NAMES = ['pool', 'align', 'vote-pool', 'vote-align', 'align-adaptive']


@pytest.fixture(params=OPERATORS, ids=NAMES)
def operator(request):
    """Position-sensitive RoI operator."""
    return request.param


def make_map(channels=2, bins=3, dtype=torch.float32, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels * bins**2, HEIGHT, WIDTH, dtype=dtype, generator=generator)


def random_rois(count, seed=0):
    rng = np.random.RandomState(seed)
    start = rng.uniform(-30, [220, 150], (count, 2))
    size = rng.gamma(1.5, 40, (count, 2))
    index = rng.randint(0, 2, (count, 1))
    return torch.tensor(np.hstack([index, start, start + size]), dtype=torch.float32)


@pytest.mark.parametrize('bins, count', [(1, 0), (3, 0), (7, 60)])
def test_pool_equals_the_formula(bins, count):
    maps, rois = make_map(bins=bins), torch.cat([ALL_ROIS, random_rois(count)])
    expected = reference.ps_roi_pool(maps.numpy(), rois.numpy(), bins, SCALE)
    np.testing.assert_allclose(ps_roi_pool(maps, rois, bins, SCALE), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('bins, samples', [(1, 1), (3, 2), (7, 3), (3, 0)])
def test_align_equals_the_formula(bins, samples):
    maps = make_map(bins=bins)
    expected = reference.ps_roi_align(
        maps.double().numpy(), ALL_ROIS.double().numpy(), bins, SCALE, samples
    )
    actual = ps_roi_align(maps, ALL_ROIS, bins, SCALE, samples)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('bins', [1, 2, 7])
@pytest.mark.parametrize(
    'mode, samples', [('pool', 2), ('align', 1), ('align', 2), ('align', 4), ('align', 0)]
)
def test_vote_equals_the_mean_of_the_bins(bins, mode, samples):
    maps = make_map(bins=bins, dtype=torch.float64)
    rois = torch.cat([ALL_ROIS, random_rois(40)]).double()
    pooled = (
        ps_roi_pool(maps, rois, bins, SCALE)
        if mode == 'pool'
        else ps_roi_align(maps, rois, bins, SCALE, samples)
    )
    vote = ps_roi_vote(maps, rois, bins, SCALE, mode, samples)
    torch.testing.assert_close(vote, pooled.mean((2, 3)), rtol=1e-9, atol=1e-12)


def test_gradcheck(operator):
    maps = make_map(channels=1, bins=2, dtype=torch.float64).requires_grad_()
    rois = ALL_ROIS.double()
    assert gradcheck(lambda x: operator(x, rois, 2, SCALE), (maps,))


def test_maps_that_are_not_contiguous(operator):
    maps = make_map(bins=3)
    wanted = operator(maps, ALL_ROIS, 3, SCALE)
    for view in (
        maps.contiguous(memory_format=torch.channels_last),
        maps.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        torch.testing.assert_close(operator(view, ALL_ROIS, 3, SCALE), wanted)


@pytest.mark.parametrize('images', [2, 0])
def test_no_rois(operator, images):
    maps = make_map()[:images].requires_grad_()
    result = operator(maps, torch.zeros(0, 5), 3, SCALE)
    assert result.shape[:2] == (0, 2)
    result.sum().backward()
    assert maps.grad.shape == maps.shape and maps.grad.eq(0).all()


def test_an_roi_that_is_not_finite_pools_zero(operator):
    rois = ALL_ROIS[[0]].repeat(4, 1)
    rois[1:, 3] = torch.tensor([float('nan'), float('inf'), -float('inf')])
    result = operator(make_map(), rois, 3, SCALE)
    assert result[1:].eq(0).all() and result[0].ne(0).any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(operator, dtype):
    maps = (make_map(bins=3) * 100).to(dtype)
    rois = torch.cat([ALL_ROIS, random_rois(40)])
    result = operator(maps, rois, 3, SCALE)
    assert result.dtype == dtype and result.isfinite().all()
    exact = operator(maps.float(), rois, 3, SCALE)
    torch.testing.assert_close(result.float(), exact, rtol=torch.finfo(dtype).eps, atol=1e-3)


def test_half_precision_does_not_overflow(operator):
    """The mean of large values is in range where their sum is not."""
    maps = torch.full((2, 18, HEIGHT, WIDTH), 60000.0, dtype=torch.float16)
    result = operator(maps, ALL_ROIS[:3], 3, SCALE)
    assert result.eq(60000).all()


@pytest.mark.parametrize(
    'shape, rois, bins, message',
    [
        ((1, 10, 4, 4), (1, 5), 3, 'multiple of output_size.2 = 9, got 10'),
        ((1, 9, 4), (1, 5), 3, r'input must have shape.*\(1, 9, 4\)'),
        ((1, 2, 8, 4, 4), (1, 5), 3, r'shape .*1, 2, 8, 4, 4'),
        ((1, 0, 9, 4, 4), (1, 5), 3, r'shape .*1, 0, 9, 4, 4'),
        ((1, 9, 4, 4), (1, 4), 3, r'rois must have shape.*\(1, 4\)'),
        ((1, 9, 4, 4), (5,), 3, r'rois must have shape.*\(5,\)'),
        ((1, 9, 4, 4), (1, 5), 0, 'output_size must be at least 1, got 0'),
    ],
)
def test_wrong_shapes_are_named(operator, shape, rois, bins, message):
    with pytest.raises(ValueError, match=message):
        operator(torch.zeros(shape), torch.zeros(rois), bins, SCALE)


@pytest.mark.parametrize('index', [-1, 2, float('nan')])
def test_a_batch_index_outside_the_batch_is_named(operator, index):
    rois = ALL_ROIS.clone()
    rois[3, 0] = index
    with pytest.raises(ValueError, match=r'rois\[3\] has batch index'):
        operator(make_map(), rois, 3, SCALE)


def test_unknown_mode_is_named():
    with pytest.raises(ValueError, match="'max'"):
        ps_roi_vote(make_map(), ALL_ROIS, 3, SCALE, mode='max')


def test_modules_equal_the_functions():
    maps = make_map()
    for module, function in (
        (PSRoIPool(3, SCALE), ps_roi_pool),
        (PSRoIAlign(3, SCALE), ps_roi_align),
        (PSRoIVote(3, SCALE), ps_roi_vote),
    ):
        assert 'output_size=3' in repr(module)
        torch.testing.assert_close(module(maps, ALL_ROIS), function(maps, ALL_ROIS, 3, SCALE))


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_cuda_equals_cpu(operator, dtype):
    maps = make_map(bins=7).to(dtype).requires_grad_()
    rois = torch.cat([ALL_ROIS, random_rois(100)])
    other = maps.detach().cuda().requires_grad_()
    here, there = (operator(x, rois.to(x.device), 7, SCALE) for x in (maps, other))
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-4)
    weight = torch.randn_like(here)
    (here * weight).sum().backward()
    (there * weight.cuda()).sum().backward()
    torch.testing.assert_close(other.grad.cpu(), maps.grad, rtol=1e-3, atol=1e-4)


def test_maps_with_too_many_cells_are_named(operator):
    maps = torch.zeros(1, 1, 1, 1).expand(2**22, 9, 8, 8)
    with pytest.raises(ValueError, match=r'\(4194304, 9, 8, 8\) has too many'):
        operator(maps, ALL_ROIS, 3, SCALE)


@pytest.mark.parametrize('mode', ['pool', 'align'])
@pytest.mark.parametrize('count', [512, 513, 1100])
def test_votes_do_not_depend_on_the_number_of_rois(mode, count):
    maps, rois = make_map(bins=2), random_rois(count)
    votes = ps_roi_vote(maps, rois, 2, SCALE, mode)
    at_once = ps_roi_vote(maps.requires_grad_(), rois, 2, SCALE, mode)
    assert torch.equal(votes, at_once.detach())
    chosen = [0, 511, count - 1]
    alone = [ps_roi_vote(maps, rois[[index]], 2, SCALE, mode).detach() for index in chosen]
    torch.testing.assert_close(votes[chosen], torch.cat(alone))


def test_different_devices_are_named(operator):
    with pytest.raises(ValueError, match='same device, got meta and cpu'):
        operator(make_map(), ALL_ROIS.to('meta'), 3, SCALE)
