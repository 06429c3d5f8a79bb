"""LIP layers: values, initialisation, training and compilation."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, Sequential
from torch import nn

from mmgwap.models.layers import (
    BottleneckLIP,
    BottleneckLogit,
    SharedBottleneckLIP,
    SimplifiedLIP,
    SoftGate,
)
from mmgwap.models.layers.lip import InstanceNorm
from tests.references import lip as reference

LAYERS = [SimplifiedLIP, BottleneckLIP]


@pytest.fixture(params=LAYERS)
def layer(request):
    """LIP layer without shared parts."""
    return request.param


def image(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def randomize(module, seed=0):
    """Give all parameters values, those that start at zero too."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def gap(a, b):
    return np.abs(np.asarray(a.detach()) - np.asarray(b)).max()


def test_gate():
    gate = SoftGate()
    x = torch.tensor([-100.0, 0.0, 1.0, 100.0])
    assert gap(gate(x), [0, 6, 12 / (1 + np.exp(-1)), 12]) < 1e-6
    assert gate(x.half()).dtype == torch.float32
    assert gate(x.double()).dtype == torch.float64


def test_starts_as_average_pooling(layer):
    x = image(2, 8, 9, 7)
    wanted = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    assert gap(layer(8)(x), wanted) < 1e-6
    wanted = F.avg_pool2d(x, 2, 2, ceil_mode=True)
    for size, padding in ((2, 0), ((2, 2), (0, 0))):
        module = layer(8, kernel_size=size, stride=size, padding=padding, ceil_mode=True)
        assert gap(module(x), wanted) < 1e-6


@pytest.mark.parametrize('container', [Sequential, nn.Sequential])
def test_init_weights_of_a_model_keeps_average_pooling(layer, container):
    """The init_cfg of the model is for all convolutions.

    mmengine does not call init_weights of layers within torch's own containers.
    """

    class Model(BaseModule):
        def __init__(self):
            super().__init__(
                [
                    dict(type='Kaiming', layer='Conv2d'),
                    dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
                ]
            )
            self.inner = container(nn.Conv2d(8, 8, 1), layer(8))

    model = Model()
    first = model.inner[0].weight.clone()
    model.init_weights()
    assert not torch.equal(model.inner[0].weight, first)
    x = image(1, 8, 6, 6)
    assert gap(model.inner[1](x), F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)) < 1e-6


def test_simplified_lip_equals_the_loops():
    layer = randomize(SimplifiedLIP(4)).double()
    x = image(1, 4, 7, 6).double()
    state = reference.under(layer.state_dict(), 'logit.')
    logits = reference.gate(reference.normed(x[0].numpy(), state, 'conv', 'bn'))
    assert gap(layer(x)[0], reference.small_lip(x[0].numpy(), logits)) < 1e-12


def test_shared_bottleneck_equals_the_whole_bottleneck():
    shared, last = BottleneckLogit(4, width=6), SharedBottleneckLIP(4, width=6)
    whole = BottleneckLIP(4, width=6)
    randomize(shared), randomize(last)
    state = {f'logit.{key[6:]}': value for key, value in shared.state_dict().items()}
    for key, value in last.state_dict().items():
        state[key.replace('postprocessing', 'logit').replace('.weight', '3.weight')] = value
    state['logit.bn3.bias'] = state.pop('logit.bn.bias')
    whole.load_state_dict(state)
    x = image(2, 4, 7, 6)
    assert shared(x).shape == (2, 6, 7, 6)
    assert torch.equal(last(x, shared(x)), whole(x))


def test_one_cell_and_empty_batch(layer):
    made = randomize(layer(4))
    x = image(2, 4, 1, 1)
    assert gap(made(x), x) < 1e-6  # the weight of a single cell is 1
    empty = torch.zeros(0, 4, 8, 8, requires_grad=True)
    out = made(empty)
    assert out.shape == (0, 4, 4, 4)
    out.sum().backward()
    assert all(p.grad is not None for p in made.parameters())


def test_instance_norm_of_one_cell_is_the_bias():
    norm = randomize(InstanceNorm(3))
    # What is left of x - mean(x) is rounding, which 1 / sqrt(eps) enlarges.
    assert gap(norm(image(2, 3, 1, 1))[0, :, 0, 0], norm.bias.detach()) < 1e-4
    x = image(2, 3, 5, 4)
    assert gap(norm(x), F.instance_norm(x, weight=norm.weight, bias=norm.bias).detach()) == 0


def test_training_leaves_average_pooling(layer):
    """The last norm learns in the first step, all other parameters in the second."""
    made = layer(4)
    x = image(2, 4, 8, 8)
    optimizer = torch.optim.SGD(made.parameters(), lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        made(x).square().mean().backward()
        norm = torch.stack([p.grad.norm() for p in made.parameters()]).norm()
        # Far below 316, the gain of an instance norm of zeros.
        assert 0 < norm < 30
        optimizer.step()
    for name, parameter in made.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_layers_do_not_read_the_range_of_the_logits(monkeypatch):
    """Reading the logits would wait for the GPU."""
    monkeypatch.setattr('mmgwap.ops.lip._is_bounded', lambda logit: pytest.fail('logits are read'))
    shared = BottleneckLogit(4)
    x = image(1, 4, 8, 8)
    for made in [layer(4) for layer in LAYERS]:
        assert made(x).shape == (1, 4, 4, 4)
    assert SharedBottleneckLIP(4)(x, shared(x)).shape == (1, 4, 4, 4)


def test_output_may_be_changed_in_place(layer):
    made = randomize(layer(4))
    x = image(1, 4, 8, 8).requires_grad_()
    made(x).relu_().sum().backward()
    again = x.detach().clone().requires_grad_()
    made(again).relu().sum().backward()
    assert torch.equal(x.grad, again.grad)


def test_autocast(layer):
    made = randomize(layer(4))
    x = image(2, 4, 8, 8)
    with torch.autocast('cpu', torch.bfloat16):
        out = made(x.bfloat16())
    assert out.dtype == torch.bfloat16
    assert gap(out.float(), made(x).detach()) < 0.1
    out.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in made.parameters())


def test_copies_and_compiles(layer):
    made = randomize(layer(4))
    x = image(2, 4, 9, 8)
    assert torch.equal(copy.deepcopy(made)(x), made(x))
    torch._dynamo.reset()
    compiled = torch.compile(made, backend='aot_eager', fullgraph=True, dynamic=True)
    for size in ((2, 4, 9, 8), (3, 4, 10, 12)):
        x = image(*size)
        assert gap(compiled(x), made(x).detach()) < 1e-5


def test_exports_with_a_dynamic_batch(layer):
    made = randomize(layer(4)).eval()
    batch = torch.export.Dim('batch')
    exported = torch.export.export(made, (image(2, 4, 9, 8),), dynamic_shapes=({0: batch},))
    for count in (1, 3):
        x = image(count, 4, 9, 8)
        assert gap(exported.module()(x), made(x).detach()) < 1e-5
