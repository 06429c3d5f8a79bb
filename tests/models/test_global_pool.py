import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from mmgwap.registry import MODELS
from tests.references import gwap as reference

POOLS = (
    'GlobalAvgPool',
    'GlobalMaxPool',
    'LogSumExpPool',
    'ClassAgnosticGWAP',
    'ClassSpecificGWAP',
)


def make(name, **kwargs):
    pool = MODELS.build(dict(type=f'mmgwap.{name}', in_channels=3, **kwargs))
    return pool.double()


@pytest.fixture
def x():
    return torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def close(a, b, tol=1e-12):
    return np.abs(np.asarray(a) - np.asarray(b)).max() <= tol


@pytest.mark.parametrize('name', POOLS)
def test_weights_sum_to_one_and_gradients_are_right(name, x):
    pool = make(name)
    values, weights = pool(x)
    assert values.shape == (2, 3)
    assert close(weights.sum(dim=(2, 3)).detach(), 1)
    assert weights.shape in ((2, 1, 4, 5), (2, 3, 4, 5))
    # The maximum has a kink where two values meet; these are far apart.
    assert gradcheck(lambda maps: pool(maps)[0], (x.requires_grad_(),))


@pytest.mark.parametrize('name', POOLS)
def test_the_map_is_what_it_weighs_by(name, x):
    values, weights = make(name)(x)
    weighted = (x * weights).sum(dim=(2, 3)).detach()
    if name == 'LogSumExpPool':  # its map is the derivative
        x.requires_grad_()
        values = make(name)(x)[0]
        values.sum().backward()
        assert close(x.grad, weights.detach())
    else:
        assert close(values.detach(), weighted)


def test_average_and_maximum_and_between(x):
    rows = x.flatten(2).numpy()
    assert close(make('GlobalAvgPool')(x)[0], rows.mean(axis=2))
    assert close(make('GlobalMaxPool')(x)[0], rows.max(axis=2))
    wanted = [[reference.log_sum_exp(list(row), 5.0) for row in image] for image in rows]
    assert close(make('LogSumExpPool')(x)[0], wanted)


def test_limits_of_log_sum_exp(x):
    assert close(make('LogSumExpPool', r=1e-6)(x)[0], x.mean(dim=(2, 3)), 1e-5)
    assert close(make('LogSumExpPool', r=1e5)(x)[0], x.amax(dim=(2, 3)), 1e-4)


def test_of_equal_maxima_the_first_takes_all():
    values, weights = make('GlobalMaxPool')(torch.ones(1, 3, 2, 2).double())
    assert values.eq(1).all()
    assert weights[0, 0].tolist() == [[1, 0], [0, 0]]


def test_class_agnostic_starts_as_the_average(x):
    pool = make('ClassAgnosticGWAP')
    pool.init_weights()
    assert close(pool(x)[0].detach(), x.mean(dim=(2, 3)))
    assert pool.foreground(x).eq(0.5).all()
    assert close(pool.localize(x, 2 * x).detach(), x)


def test_class_agnostic_learns_where(x):
    pool = make('ClassAgnosticGWAP')
    pool(x)[0].sum().backward()
    assert pool.attention.weight.grad.abs().sum() > 0


def test_class_specific_maps_are_between_0_and_1(x):
    maps = make('ClassSpecificGWAP').localize(10 * x, x)
    assert maps.shape == x.shape
    assert (maps > 0).all() and (maps < 1).all()
    assert (maps.sum(dim=1) < 1).all()  # the classes compete


@pytest.mark.parametrize('name', POOLS)
def test_half_and_a_single_position(name):
    pool = make(name).to(torch.bfloat16)
    x = torch.randn(2, 3, 1, 1).to(torch.bfloat16)
    values, weights = pool(x)
    assert values.dtype is torch.bfloat16
    assert close(values.float().detach(), x[:, :, 0, 0].float(), 1e-2)
    assert weights.eq(1).all()


@pytest.mark.parametrize('name', POOLS)
def test_no_images(name):
    assert make(name)(torch.zeros(0, 3, 4, 4).double())[0].shape == (0, 3)


@pytest.mark.parametrize('r', [0, -1, float('nan')])
def test_wrong_sharpness(r):
    with pytest.raises(ValueError, match='LogSumExpPool: r must be'):
        make('LogSumExpPool', r=r)
