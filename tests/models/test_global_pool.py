"""Global poolings: values and localization maps."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from mmgwap.ops import class_agnostic_gwap, class_specific_gwap
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
    return MODELS.build(dict(type=f'mmgwap.{name}', in_channels=3, **kwargs)).double()


@pytest.fixture
def x():
    return torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def close(a, b, tol=1e-12):
    a, b = (value.detach() if isinstance(value, torch.Tensor) else value for value in (a, b))
    return np.abs(np.asarray(a) - np.asarray(b)).max() <= tol


@pytest.mark.parametrize('name', POOLS)
def test_gradients(name, x):
    # The gradient of the maximum is not defined for ties; these values are distinct.
    assert gradcheck(make(name), (x.requires_grad_(),))


def test_average_maximum_and_log_sum_exp(x):
    rows = x.flatten(2).numpy()
    assert close(make('GlobalAvgPool')(x), rows.mean(axis=2))
    assert close(make('GlobalMaxPool')(x), rows.max(axis=2))
    expected = [[reference.log_sum_exp(list(row), 5.0) for row in image] for image in rows]
    assert close(make('LogSumExpPool')(x), expected)
    assert close(make('LogSumExpPool', r=1e-6)(x), rows.mean(axis=2), 1e-5)
    assert close(make('LogSumExpPool', r=1e5)(x), rows.max(axis=2), 1e-4)


def test_gwap_pools_as_its_operators(x):
    pool = make('ClassAgnosticGWAP')
    assert close(pool(x), class_agnostic_gwap(x, pool.attention(x))[0])
    assert close(make('ClassSpecificGWAP')(x), class_specific_gwap(x)[0])


def test_class_agnostic_gwap_is_initialised_as_the_average(x):
    pool = make('ClassAgnosticGWAP')
    pool.init_weights()
    assert close(pool(x), x.mean(dim=(2, 3)))
    assert pool.foreground(x).eq(0.5).all()
    assert close(pool.localize(x, 2 * x), x)
    pool(x).sum().backward()
    assert pool.attention.weight.grad.any()


def test_class_specific_maps_are_in_0_1_and_classes_compete(x):
    maps = make('ClassSpecificGWAP').localize(10 * x, x)
    assert maps.shape == x.shape
    assert (maps > 0).all() and (maps.sum(dim=1) < 1).all()


@pytest.mark.parametrize('name', POOLS)
def test_half_precision_single_position_and_empty_batch(name):
    pool = make(name).to(torch.bfloat16)
    x = torch.randn(2, 3, 1, 1).to(torch.bfloat16)
    values = pool(x)
    assert values.dtype is torch.bfloat16
    assert close(values.float(), x[:, :, 0, 0].float(), 1e-2)
    assert pool(x[:0]).shape == (0, 3)


@pytest.mark.parametrize('r', [0, -1, float('nan')])
def test_sharpness_out_of_range(r):
    with pytest.raises(ValueError, match='LogSumExpPool: r .*got'):
        make('LogSumExpPool', r=r)
