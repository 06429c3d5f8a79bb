"""LIP against loops over its formula."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from mmgwap.ops import LIP2d, lip2d
from tests.references import lip as reference

# kernel, stride, padding, ceil_mode
WINDOWS = [
    (3, 2, 1, False),
    (2, 2, 0, False),
    (2, 2, 0, True),
    (3, 1, 1, False),
    (3, 3, 0, True),
    (5, 2, 2, True),
    ((3, 2), (2, 1), (1, 0), False),
    (1, 2, 0, False),
    (3, 5, 1, True),
    (7, 4, 3, False),
    (2, 3, 1, True),
]


def maps(*shape, scale=1.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=dtype)


def pair(value):
    return (value, value) if isinstance(value, int) else value


def loop(x, logit, kernel, stride, padding, ceil_mode):
    """The reference, with as many windows as torch's pooling has."""
    windows = F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode).shape[2:]
    logit = logit.expand_as(x)
    return np.stack(
        [
            reference.lip_pool(
                image.numpy(), weights.numpy(), pair(kernel), pair(stride), pair(padding), windows
            )
            for image, weights in zip(x, logit)
        ]
    )


def results(function, *inputs):
    """Return the output of a function and the gradients of copies of its inputs."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    out = function(*leaves)
    out.backward(weights(out))
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def weights(out):
    """Return a gradient of the output, equal for all dtypes but half precision."""
    position = torch.arange(out.numel(), device=out.device).view(out.shape)
    return position.float().sin().to(out.dtype)


def assert_near(found, wanted, tolerance):
    for result, expected in zip(found, wanted):
        assert result.shape == expected.shape
        assert gap(result.cpu(), expected.cpu()) < tolerance


def gap(a, b):
    """Return the largest difference."""
    return np.abs(np.asarray(a.detach()) - np.asarray(b)).max()


@pytest.mark.parametrize('windows', WINDOWS, ids=str)
@pytest.mark.parametrize('spread', [1.0, 500.0])
def test_values_equal_the_loop(windows, spread):
    x = maps(2, 3, 7, 8)
    for shape in ((2, 3, 7, 8), (2, 1, 7, 8), (1, 3, 7, 8), (1, 1, 1, 1)):
        logit = maps(*shape, scale=spread, seed=1)
        out, wanted = lip2d(x, logit, *windows), loop(x, logit, *windows)
        assert out.shape == wanted.shape
        assert gap(out, wanted) < 1e-12


@pytest.mark.parametrize('windows', WINDOWS, ids=str)
@pytest.mark.parametrize('spread, channels', [(1.0, 2), (1.0, 1), (200.0, 2)])
def test_gradients(windows, spread, channels):
    x = maps(2, 2, 6, 5).requires_grad_()
    logit = maps(2, channels, 6, 5, seed=1)
    if spread > 60:  # far from all others in its window, or equal to them
        logit = (logit * 2).round() * spread
    assert gradcheck(lambda x, logit: lip2d(x, logit, *windows), (x, logit.requires_grad_()))


def test_gradient_of_x_alone():
    x, logit = maps(1, 2, 5, 5).requires_grad_(), maps(1, 2, 5, 5, seed=1)
    lip2d(x, logit).sum().backward()
    both = x.detach().clone().requires_grad_()
    lip2d(both, logit.requires_grad_()).sum().backward()
    assert torch.equal(x.grad, both.grad)
    assert logit.grad.abs().max() > 0


@pytest.mark.parametrize(
    'dtype,error', [(torch.float32, 2e-6), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)]
)
def test_each_dtype_is_near_float64(dtype, error):
    x, logit = maps(2, 4, 17, 16), 12 * maps(2, 4, 17, 16, seed=1).sigmoid()
    rough, steep = x.to(dtype), logit.float()
    out = lip2d(rough, steep)
    assert out.dtype == dtype
    assert gap(out.double(), lip2d(rough.double(), steep.double())) < error


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    x = (100 * maps(1, 2, 8, 8)).to(dtype)
    logit = torch.full_like(x, 11.9)  # exp(11.9) exceeds float16
    wanted = F.avg_pool2d(x.double(), 3, 2, 1, count_include_pad=False)
    ours = lip2d(x.requires_grad_(), logit)
    # Half a unit in the last place of the largest value, in this dtype.
    half_unit = wanted.abs().max() * torch.finfo(dtype).eps / 2
    assert (ours - wanted).abs().max() <= half_unit
    ours.sum().backward()
    assert x.grad.isfinite().all() and x.grad.dtype == dtype


@pytest.mark.parametrize('windows', WINDOWS, ids=str)
def test_limits_are_average_and_max_pooling(windows):
    x = maps(2, 3, 9, 8)
    average = F.avg_pool2d(x, *windows, count_include_pad=False)
    assert gap(lip2d(x, torch.full((1, 1, 1, 1), 7.0).double(), *windows), average) < 1e-12
    maximum = F.max_pool2d(x, *windows[:3], ceil_mode=windows[3])
    assert gap(lip2d(x, 1e9 * x, *windows), maximum) < 1e-12


def test_layouts_have_the_same_values_and_gradients():
    x, logit = maps(2, 6, 9, 7), maps(2, 6, 9, 7, seed=1)
    wanted = results(lip2d, x, logit)
    last = [tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, logit)]
    turned = [tensor.transpose(2, 3).contiguous().transpose(2, 3) for tensor in (x, logit)]
    for inputs in (last, turned, (x, last[1])):
        assert_near(results(lip2d, *inputs), wanted, 1e-14)
    assert lip2d(*last).is_contiguous(memory_format=torch.channels_last)


def test_empty_batch():
    x = torch.zeros(0, 3, 8, 8, requires_grad=True)
    out = lip2d(x, torch.zeros(0, 3, 8, 8))
    assert out.shape == (0, 3, 4, 4)
    out.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize(
    'shapes,options,message',
    [
        (((2, 3, 8, 8), (2, 2, 8, 8)), {}, r'broadcasts.*\(2, 2, 8, 8\)'),
        (((2, 3, 8, 8), (2, 3, 8, 7)), {}, 'broadcasts'),
        (((3, 8, 8), (3, 8, 8)), {}, r'got \(3, 8, 8\)'),
        (((2, 3, 8, 8), (2, 3, 8, 8)), dict(padding=2), 'padding from 0 to'),
        (((2, 3, 8, 8), (2, 3, 8, 8)), dict(stride=0), 'stride >= 1'),
        (((2, 3, 8, 1), (2, 3, 8, 1)), dict(padding=0), '8 x 1 is too small'),
        (((2, 3, 0, 8), (2, 3, 0, 8)), {}, '0 x 8 is too small'),
    ],
)
def test_wrong_arguments_are_named(shapes, options, message):
    with pytest.raises(ValueError, match=message):
        lip2d(*(torch.zeros(shape) for shape in shapes), **options)


@pytest.mark.parametrize('gate', [None, 12.0])
def test_backward_keeps_the_inputs_and_two_maps_of_the_output_size(gate):
    sizes = {}

    def record(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    x, logit = (maps(1, 8, 32, 32, seed=i).requires_grad_() for i in range(2))
    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        out = lip2d(x, logit, gate=gate)
    assert out.requires_grad
    assert sum(sizes.values()) <= 2.5 * 8 * x.numel()


def test_second_derivative_is_refused():
    x = maps(1, 1, 4, 4).requires_grad_()
    out = lip2d(x, x).square().sum()
    (grad,) = torch.autograd.grad(out, x, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        grad.sum().backward()


@pytest.mark.parametrize('form', ['compiled', 'traced'])
@pytest.mark.parametrize('windows', [((3, 2), (2, 1), (1, 0), False), (3, 5, 1, True)], ids=str)
@pytest.mark.parametrize('shape', [(1, 2, 9, 8), (1, 1, 9, 8)], ids=str)
def test_graphs_equal_eager_for_any_finite_logits(form, windows, shape):
    """Also where the logits of a window lie far below the maximum of the map."""
    x = maps(1, 2, 9, 8, dtype=torch.float32)
    logit = maps(*shape, scale=200.0, seed=1, dtype=torch.float32)
    logit[..., 4:, :] -= 1e5
    logit[..., 0, 0] = 3e38
    module = LIP2d(*windows)
    if form == 'compiled':
        torch._dynamo.reset()
        function = torch.compile(LIP2d(*windows), backend='aot_eager', fullgraph=True)
    else:
        function = torch.jit.trace(LIP2d(*windows), (x, torch.zeros_like(logit)))
    wanted = results(module, x, logit)
    assert all(tensor.isfinite().all() for tensor in wanted)
    assert_near(results(function, x, logit), wanted, 1e-5)


@pytest.mark.parametrize('scale', [50.0, 1000.0])
def test_float32_takes_any_logits(scale):
    x = maps(2, 3, 9, 8, dtype=torch.float32)
    logit = maps(2, 3, 9, 8, scale=scale, seed=1, dtype=torch.float32)
    wanted = loop(x.double(), logit.double(), 3, 2, 1, False)
    assert gap(lip2d(x, logit), wanted) < 1e-5
    same = torch.full_like(x, -scale)
    assert gap(lip2d(x, same), loop(x, same, 3, 2, 1, False)) < 1e-6


def test_arithmetic_has_the_wider_of_two_dtypes():
    x, logit = maps(2, 3, 9, 8), maps(2, 3, 9, 8, seed=1).float()
    found = lip2d(x, logit)
    assert found.dtype == torch.float64
    assert gap(found, lip2d(x, logit.double())) < 1e-15
    rough = x.float()
    assert gap(lip2d(rough, logit.double()).double(), lip2d(rough.double(), logit.double())) < 1e-6


def test_module_and_bounded_equal_the_function():
    x, logit = maps(1, 2, 7, 7), maps(1, 2, 7, 7, scale=20.0, seed=1)
    logit.clamp_(-60, 60)
    assert torch.equal(lip2d(x, logit, bounded=True), lip2d(x, logit))
    assert 'stride=2, padding=1, ceil_mode=False' in repr(LIP2d())
    for windows in WINDOWS[:3]:
        assert torch.equal(LIP2d(*windows)(x, logit), lip2d(x, logit, *windows))


@pytest.mark.parametrize('gate', [12.0, 100.0])
@pytest.mark.parametrize('form', ['eager', 'compiled', 'traced'])
def test_gate_equals_a_scaled_sigmoid(gate, form):
    module = LIP2d(gate=gate)
    x, raw = (maps(2, 3, 7, 6, scale=4.0, seed=i) for i in range(2))
    if form == 'compiled':
        torch._dynamo.reset()
        module = torch.compile(module, backend='aot_eager', fullgraph=True)
    elif form == 'traced':
        module = torch.jit.trace(module, (x, raw))
    wanted = results(lambda x, raw: lip2d(x, gate * raw.sigmoid()), x, raw)
    assert_near(results(module, x, raw), wanted, 1e-11)
    if form == 'eager':
        leaves = x[:1, :2].requires_grad_(), raw[:1, :1].requires_grad_()
        assert gradcheck(lambda *leaves: lip2d(*leaves, gate=gate), leaves)


@pytest.mark.parametrize('gate', [0.0, -1.0, float('nan')])
def test_a_gate_that_is_not_above_0_is_refused(gate):
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match=f'gate.*got {gate}'):
        lip2d(x, x, gate=gate)


@pytest.mark.gpu
@pytest.mark.parametrize(
    'dtype,error', [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.float16, 2e-3)]
)
def test_cuda_equals_cpu(dtype, error):
    for windows in WINDOWS:
        x, logit = maps(2, 3, 9, 8).to(dtype), maps(2, 3, 9, 8, seed=1)
        found = []
        for device in ('cpu', 'cuda'):
            leaves = [x.to(device).requires_grad_(), logit.float().to(device).requires_grad_()]
            out = lip2d(*leaves, *windows)
            out.float().square().sum().backward()
            found.append([one.cpu() for one in (out, leaves[0].grad, leaves[1].grad)])
        for one, other in zip(*found):
            assert gap(one.double(), other.detach().double()) < error * max(1, other.abs().max())
