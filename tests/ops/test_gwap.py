"""Global weighted average pooling against loops over positions."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from mmgwap.ops import class_agnostic_gwap, class_specific_attention, class_specific_gwap
from tests.references import gwap as reference

SHAPES = [(2, 3, 4, 5), (1, 1, 1, 1), (3, 7, 1, 6), (1, 80, 2, 2)]


def maps(*shape, scale=3.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=dtype)


def close(a, b, tol=1e-12):
    return np.abs(np.asarray(a) - np.asarray(b)).max() <= tol


@pytest.mark.parametrize('shape', SHAPES)
def test_class_agnostic_equals_the_loop(shape):
    x, m = maps(*shape), maps(shape[0], 1, *shape[2:], seed=1)
    pooled, weights = class_agnostic_gwap(x, m)
    assert pooled.shape == shape[:2]
    assert weights.shape == m.shape
    for image in range(shape[0]):
        wanted, alpha = reference.class_agnostic(
            x[image].flatten(1).numpy(), m[image].flatten().numpy()
        )
        assert close(pooled[image], wanted)
        assert close(weights[image].flatten(), alpha)


@pytest.mark.parametrize('shape', SHAPES)
def test_class_specific_equals_the_loop(shape):
    x = maps(*shape)
    logits, weights = class_specific_gwap(x)
    attention = class_specific_attention(x)
    assert logits.shape == shape[:2]
    for image in range(shape[0]):
        wanted, where, alpha = reference.class_specific(x[image].flatten(1).numpy())
        assert close(logits[image], wanted)
        assert close(attention[image].flatten(1), where)
        assert close(weights[image].flatten(1), alpha)


def test_no_position_weighs_more_than_e_times_another():
    m = torch.full((1, 1, 4, 4), -80.0)
    m[0, 0, 2, 1] = 80.0
    weights = class_agnostic_gwap(torch.zeros(1, 2, 4, 4), m)[1]
    assert abs((weights.max() / weights.min()).item() - math.e) < 1e-5
    assert weights.argmax() == 2 * 4 + 1


@pytest.mark.parametrize('output', [0, 1])
def test_gradients(output):
    x = maps(2, 3, 3, 2, scale=1.0).requires_grad_()
    m = maps(2, 1, 3, 2, scale=1.0, seed=1).requires_grad_()
    assert gradcheck(lambda *a: class_agnostic_gwap(*a)[output], (x, m))
    assert gradcheck(lambda a: class_specific_gwap(a)[output], (x,))
    assert gradcheck(class_specific_attention, (x,))


@pytest.mark.parametrize('dtype, tol', [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
def test_half_precision(dtype, tol):
    # Over so many positions a weight is below float16's smallest normal number.
    x, m = (maps(1, channels, 200, 200, seed=3).to(dtype) for channels in (4, 1))
    for pool, args in ((class_agnostic_gwap, (x, m)), (class_specific_gwap, (x,))):
        (pooled, weights), exact = pool(*args), pool(*(tensor.double() for tensor in args))
        assert pooled.dtype is dtype
        assert close(pooled.float(), exact[0], tol)
        assert abs(weights.double().sum(dim=(2, 3)) - 1).max() < 1e-5


def test_large_half_scores_do_not_overflow():
    x = torch.full((1, 2, 30, 30), 6e4, dtype=torch.float16)
    logits, weights = class_specific_gwap(x)
    assert torch.isfinite(logits).all() and torch.isfinite(weights).all()
    assert close(logits.float(), 6e4, 32)


def test_autocast():
    conv = torch.nn.Conv2d(4, 3, 1)
    x = maps(2, 4, 5, 5, dtype=torch.float32)
    exact = class_specific_gwap(conv(x))[0]
    with torch.autocast('cpu', torch.bfloat16):
        half = class_specific_gwap(conv(x))[0]
    assert half.dtype is torch.bfloat16
    assert close(half.float().detach(), exact.detach(), 5e-2)


def test_non_contiguous_maps():
    x = maps(2, 3, 4, 6)
    for view in (
        x.to(memory_format=torch.channels_last),
        x.repeat_interleave(2, dim=3)[..., ::2],
        x.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        assert close(class_specific_gwap(view)[0], class_specific_gwap(x)[0])


def test_no_images():
    pooled, weights = class_agnostic_gwap(torch.zeros(0, 3, 4, 4), torch.zeros(0, 1, 4, 4))
    assert pooled.shape == (0, 3) and weights.shape == (0, 1, 4, 4)
    assert class_specific_gwap(torch.zeros(0, 3, 4, 4))[0].shape == (0, 3)


@pytest.mark.parametrize(
    'shape, other',
    [
        ((2, 3, 4, 4), (2, 3, 4, 4)),
        ((2, 3, 4, 4), (1, 1, 4, 4)),
        ((2, 3, 4, 4), (2, 1, 4, 5)),
        ((2, 3, 4), (2, 1, 4)),
    ],
)
def test_wrong_shapes_are_named(shape, other):
    with pytest.raises(ValueError) as error:
        class_agnostic_gwap(torch.zeros(shape), torch.zeros(other))
    assert str(shape) in str(error.value) and str(other) in str(error.value)


def test_wrong_score_map_is_named():
    with pytest.raises(ValueError, match=r'\(3, 4\)'):
        class_specific_gwap(torch.zeros(3, 4))
