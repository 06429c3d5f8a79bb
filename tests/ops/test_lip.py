import itertools

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
SIZES = [(7, 8), (9, 5)]


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


def gap(a, b):
    """Return the largest difference."""
    return np.abs(np.asarray(a.detach()) - np.asarray(b)).max()


@pytest.mark.parametrize('windows', WINDOWS, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('spread', [1.0, 500.0])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_is_the_loop(windows, size, spread, layout):
    x = maps(2, 3, *size)
    for shape in ((2, 3, *size), (2, 1, *size), (1, 3, *size), (1, 1, 1, 1)):
        logit = maps(*shape, scale=spread, seed=1)
        out = lip2d(
            x.contiguous(memory_format=layout), logit.contiguous(memory_format=layout), *windows
        )
        wanted = loop(x, logit, *windows)
        assert out.shape == wanted.shape
        assert gap(out, wanted) < 1e-12


@pytest.mark.parametrize('windows', WINDOWS, ids=str)
@pytest.mark.parametrize('spread', [1.0, 200.0])
@pytest.mark.parametrize('channels', [2, 1])
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
def test_types_near_float64(dtype, error):
    x, logit = maps(2, 4, 17, 16), 12 * maps(2, 4, 17, 16, seed=1).sigmoid()
    rough, steep = x.to(dtype), logit.float()
    out = lip2d(rough, steep)
    assert out.dtype == dtype
    assert gap(out.double(), lip2d(rough.double(), steep.double())) < error


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_where_the_naive_form_fails(dtype):
    x = (100 * maps(1, 2, 8, 8)).to(dtype)
    logit = torch.full_like(x, 11.9)  # exp(11.9) exceeds float16
    naive = reference.averages(x, logit, 3, 2, 1)
    wanted = F.avg_pool2d(x.double(), 3, 2, 1, count_include_pad=False)
    ours = lip2d(x.requires_grad_(), logit)
    # Half a unit in the last place of the largest value, in this dtype.
    half_unit = wanted.abs().max() * torch.finfo(dtype).eps / 2
    assert (ours - wanted).abs().max() <= half_unit
    # bfloat16 has float32's range, and its naive form is finite too.
    assert naive.isfinite().any() == (dtype == torch.bfloat16)
    ours.sum().backward()
    assert x.grad.isfinite().all() and x.grad.dtype == dtype


def test_autocast_takes_mixed_types():
    x = maps(1, 2, 8, 8, dtype=torch.float32)
    logit = 12 * maps(1, 2, 8, 8, seed=1, dtype=torch.float32).sigmoid()
    with torch.autocast('cpu', torch.bfloat16):
        out = lip2d(x.bfloat16(), logit)
    assert out.dtype == torch.bfloat16
    assert gap(out.float(), lip2d(x.bfloat16().float(), logit)) < 2e-2


@pytest.mark.parametrize('windows', WINDOWS, ids=str)
def test_constant_logits_are_average_pooling(windows):
    x = maps(2, 3, 9, 8)
    out = lip2d(x, torch.full((1, 1, 1, 1), 7.0).double(), *windows)
    wanted = F.avg_pool2d(x, *windows, count_include_pad=False)
    assert gap(out, wanted) < 1e-12


def test_softpool():
    """Stergiou et al., ICCV 2021, equation 2: weights are the values' own."""
    x = maps(2, 3, 8, 6)
    cells = F.unfold(x, 2, stride=2).view(2, 3, 4, 12)
    wanted = (cells.softmax(dim=2) * cells).sum(dim=2).view(2, 3, 4, 3)
    assert gap(lip2d(x, x, 2, 2, 0), wanted) < 1e-12


@pytest.mark.parametrize('windows', WINDOWS, ids=str)
def test_the_limit_of_steep_logits_is_max_pooling(windows):
    x = maps(2, 3, 9, 8)
    kernel, stride, padding, ceil_mode = windows
    wanted = F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode)
    last = np.inf
    for beta in (1, 10, 100):
        now = gap(lip2d(x, beta * x, *windows), wanted)
        assert now <= last
        last = now
    assert gap(lip2d(x, 1e9 * x, *windows), wanted) < 1e-12


def test_a_shift_of_all_logits_changes_nothing():
    """Only differences within a window matter, however large the logits."""
    x, logit = maps(1, 2, 7, 7), maps(1, 2, 7, 7, seed=1)
    wanted = lip2d(x, logit)
    for shift in (-50.0, 50.0, 1e4, -1e4):
        assert gap(lip2d(x, logit + shift), wanted) < 1e-10


def test_layouts():
    x, logit = maps(2, 6, 9, 7), maps(2, 6, 9, 7, seed=1)
    wanted = lip2d(x, logit)
    last = [one.contiguous(memory_format=torch.channels_last) for one in (x, logit)]
    out = lip2d(*last)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert gap(out, wanted) < 1e-14
    strange = [one.transpose(2, 3).contiguous().transpose(2, 3) for one in (x, logit)]
    assert not strange[0].is_contiguous()
    assert gap(lip2d(*strange), wanted) < 1e-14
    assert gap(lip2d(x, last[1]), wanted) < 1e-14


def test_layouts_have_the_same_gradients():
    x, logit = maps(2, 6, 9, 7), maps(2, 6, 9, 7, seed=1)
    weight = maps(2, 6, 5, 4, seed=2)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        leaves = [one.clone(memory_format=layout).requires_grad_() for one in (x, logit)]
        lip2d(*leaves).backward(weight)
        found.append([leaf.grad for leaf in leaves])
    for one, other in zip(*found):
        assert gap(one, other) < 1e-14


def test_empty_batch():
    x = torch.zeros(0, 3, 8, 8, requires_grad=True)
    out = lip2d(x, torch.zeros(0, 3, 8, 8))
    assert out.shape == (0, 3, 4, 4)
    out.sum().backward()
    assert x.grad.shape == x.shape


def test_one_cell():
    x, logit = maps(2, 3, 1, 1), maps(2, 3, 1, 1, seed=1)
    assert gap(lip2d(x, logit), x) < 1e-15


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


def test_keeps_less_for_backward_than_the_two_average_poolings():
    def kept(function):
        """Bytes of different storages that autograd holds."""
        x, logit = (maps(1, 8, 32, 32, seed=i).requires_grad_() for i in range(2))
        sizes = {}

        def record(tensor):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(record, lambda t: t):
            out = function(x, logit)
        assert out.requires_grad
        return sum(sizes.values())

    full = 8 * 32 * 32 * 8
    ours = kept(lip2d)
    assert ours <= 2.5 * full  # inputs, and two of a quarter of their size
    naive = kept(lambda x, logit: reference.averages(x, logit, 3, 2, 1))
    assert naive >= 3.5 * full


def test_twice_differentiating_is_refused():
    x = maps(1, 1, 4, 4).requires_grad_()
    out = lip2d(x, x).square().sum()
    (grad,) = torch.autograd.grad(out, x, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        grad.sum().backward()


@pytest.mark.parametrize(
    'windows',
    [
        (2, 2, 0, True),
        ((3, 2), (2, 1), (1, 0), False),
        pytest.param((7, 4, 3, False), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_compiled_is_eager(windows):
    module = LIP2d(*windows)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend='aot_eager', fullgraph=True)
    found = []
    for function in (module, compiled):
        x, logit = (maps(2, 3, 9, 8, seed=i).requires_grad_() for i in range(2))
        out = function(x, 30 * logit)
        out.sin().sum().backward()
        found.append((out, x.grad, logit.grad))
    for result, wanted in zip(*found):
        assert gap(result, wanted.detach()) < 1e-12


@pytest.mark.parametrize('form', ['compiled', 'traced'])
@pytest.mark.parametrize('windows', [(3, 2, 1, False), (3, 5, 1, True)], ids=str)
@pytest.mark.parametrize('shape', [(1, 2, 9, 8), (1, 1, 9, 8)], ids=str)
def test_graphs_equal_eager_for_any_finite_logits(form, windows, shape):
    """Also where the logits of a window lie far below the maximum of the map."""
    x = maps(1, 2, 9, 8, dtype=torch.float32)
    logit = maps(*shape, scale=200.0, seed=1, dtype=torch.float32)
    logit[..., 4:, :] -= 1e5
    logit[..., 0, 0] = 3e38
    results = []
    for name in ('eager', form):
        function = LIP2d(*windows)
        leaves = [x.clone().requires_grad_(), logit.clone().requires_grad_()]
        if name == 'compiled':
            torch._dynamo.reset()
            function = torch.compile(function, backend='aot_eager', fullgraph=True)
        elif name == 'traced':
            function = torch.jit.trace(function, (x, torch.zeros_like(logit)))
        out = function(*leaves)
        out.sin().sum().backward()
        results.append([out, *(leaf.grad for leaf in leaves)])
    for result, wanted in zip(*results):
        assert wanted.isfinite().all()
        assert gap(result, wanted.detach()) < 1e-5


@pytest.mark.parametrize('scale', [50.0, 100.0, 1000.0])
def test_float32_takes_any_logits(scale):
    x = maps(2, 3, 9, 8, dtype=torch.float32)
    logit = maps(2, 3, 9, 8, scale=scale, seed=1, dtype=torch.float32)
    wanted = loop(x.double(), logit.double(), 3, 2, 1, False)
    assert gap(lip2d(x, logit), wanted) < 1e-5
    same = torch.full_like(x, -scale)
    assert gap(lip2d(x, same), loop(x, same, 3, 2, 1, False)) < 1e-6


def test_the_wider_type_counts():
    x, logit = maps(2, 3, 9, 8), maps(2, 3, 9, 8, seed=1).float()
    found = lip2d(x, logit)
    assert found.dtype == torch.float64
    assert gap(found, lip2d(x, logit.double())) < 1e-15
    assert (
        gap(lip2d(x.float(), logit.double()).double(), lip2d(x.float().double(), logit.double()))
        < 1e-6
    )


def test_bounded_is_the_same():
    x, logit = maps(1, 2, 7, 7), maps(1, 2, 7, 7, scale=20.0, seed=1)
    logit.clamp_(-60, 60)
    assert torch.equal(lip2d(x, logit, bounded=True), lip2d(x, logit))
    assert 'stride=2, padding=1, ceil_mode=False' in repr(LIP2d())
    for windows, size in itertools.product(WINDOWS[:3], SIZES[:2]):
        x, logit = maps(1, 2, *size), maps(1, 2, *size, seed=1)
        assert torch.equal(LIP2d(*windows)(x, logit), lip2d(x, logit, *windows))


@pytest.mark.parametrize('gate', [12.0, 100.0])
@pytest.mark.parametrize('form', ['eager', 'compiled', 'traced'])
def test_the_gate_is_the_sigmoid(gate, form):
    module = LIP2d(gate=gate)
    found = []
    for inside in (True, False):
        x, raw = (maps(2, 3, 7, 6, scale=4.0, seed=i).requires_grad_() for i in range(2))
        if form == 'compiled':
            torch._dynamo.reset()
            module = torch.compile(LIP2d(gate=gate), backend='aot_eager', fullgraph=True)
        elif form == 'traced':
            module = torch.jit.trace(LIP2d(gate=gate), (x, raw))
        out = module(x, raw) if inside else lip2d(x, gate * raw.sigmoid())
        out.sin().sum().backward()
        found.append((out, x.grad, raw.grad))
    for result, wanted in zip(*found):
        assert gap(result, wanted.detach()) < 1e-11
    assert gradcheck(lambda *leaves: lip2d(*leaves, gate=gate), (x[:1, :2], raw[:1, :1]))


def test_the_gate_keeps_no_memory():
    def kept(**options):
        sizes = {}

        def record(tensor):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        x, raw = (maps(1, 8, 16, 16, seed=i).requires_grad_() for i in range(2))
        with torch.autograd.graph.saved_tensors_hooks(record, lambda t: t):
            out = lip2d(x, raw, **options) if options else lip2d(x, 12 * raw.sigmoid())
        assert out.requires_grad
        return sum(sizes.values())

    full = 8 * 16 * 16 * 8
    assert kept(gate=12.0) <= 2.5 * full
    assert kept() >= 3.5 * full


@pytest.mark.parametrize('gate', [0.0, -1.0, float('nan')])
def test_a_gate_that_is_not_above_0_is_refused(gate):
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match=f'gate must be above 0, got {gate}'):
        lip2d(x, x, gate=gate)


@pytest.mark.gpu
@pytest.mark.parametrize(
    'dtype,error', [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.float16, 2e-3)]
)
def test_cuda_is_cpu(dtype, error):
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
