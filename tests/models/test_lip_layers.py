import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, Sequential
from torch import nn

from mmgwap.models.layers import (BottleneckLIP, BottleneckLogit,
                                  SharedBottleneckLIP, SimplifiedLIP, SoftGate)
from mmgwap.models.layers.lip import InstanceNorm
from tests.references import lip as reference

LAYERS = [SimplifiedLIP, BottleneckLIP]


def image(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def randomize(module, seed=0):
    """Give all parameters values, those that start at zero too."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.copy_(.3 * torch.randn(parameter.shape,
                                              generator=generator))
    return module


def gap(a, b):
    return np.abs(np.asarray(a.detach()) - np.asarray(b)).max()


def test_gate():
    gate = SoftGate()
    x = torch.tensor([-100., 0., 1., 100.])
    assert gap(gate(x), [0, 6, 12 / (1 + np.exp(-1)), 12]) < 1e-6
    assert gate(x.half()).dtype == torch.float32
    assert gate(x.double()).dtype == torch.float64


@pytest.mark.parametrize('layer', LAYERS)
def test_starts_as_average_pooling(layer):
    x = image(2, 8, 9, 7)
    wanted = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    assert gap(layer(8)(x), wanted) < 1e-6
    for made in (layer(8, kernel_size=2, stride=2, padding=0, ceil_mode=True),
                 layer(8, kernel_size=(2, 2), stride=(2, 2), padding=(0, 0),
                       ceil_mode=True)):
        wanted = F.avg_pool2d(x, 2, 2, ceil_mode=True)
        assert gap(made(x), wanted) < 1e-6


@pytest.mark.parametrize('layer', LAYERS)
def test_a_models_init_leaves_it_at_average_pooling(layer):
    """An init_cfg for all convolutions reaches into the layer first."""
    class Model(BaseModule):
        def __init__(self):
            super().__init__(dict(type='Kaiming', layer='Conv2d'))
            self.inner = Sequential(nn.Conv2d(8, 8, 1), layer(8))

    model = Model()
    first = model.inner[0].weight.clone()
    model.init_weights()
    assert not torch.equal(model.inner[0].weight, first)
    x = image(1, 8, 6, 6)
    assert gap(model.inner[1](x), F.avg_pool2d(
        x, 3, 2, 1, count_include_pad=False)) < 1e-6


def test_simplified_is_the_formula():
    layer = randomize(SimplifiedLIP(4)).double()
    x = image(1, 4, 7, 6).double()
    state = reference.under(layer.state_dict(), 'logit.')
    logits = reference.gate(reference.normed(x[0].numpy(), state, 'conv',
                                             'bn'))
    assert gap(layer(x)[0], reference.small_lip(x[0].numpy(), logits)) < 1e-12


def test_shared_bottleneck_is_the_one_in_one():
    shared, last = BottleneckLogit(4, width=6), SharedBottleneckLIP(4, width=6)
    whole = BottleneckLIP(4, width=6)
    randomize(shared), randomize(last)
    state = {f'logit.{key[6:]}': value
             for key, value in shared.state_dict().items()}
    state.update({key.replace('postprocessing.', 'logit.').replace(
        'conv.', 'conv3.').replace('bn.', 'bn3.'): value
        for key, value in last.state_dict().items()})
    whole.load_state_dict(state)
    x = image(2, 4, 7, 6)
    assert shared(x).shape == (2, 6, 7, 6)
    assert torch.equal(last(x, shared(x)), whole(x))


def test_names_of_the_authors():
    names = {SimplifiedLIP(4): {'logit.conv.weight', 'logit.bn.weight',
                                'logit.bn.bias'},
             BottleneckLogit(4): {
                 f'logit.{name}' for n in '12' for name in
                 (f'conv{n}.weight', f'bn{n}.weight', f'bn{n}.bias')},
             BottleneckLIP(4): {
                 f'logit.{name}' for n in '123' for name in
                 (f'conv{n}.weight', f'bn{n}.weight', f'bn{n}.bias')},
             SharedBottleneckLIP(4): {
                 f'postprocessing.{name}' for name in
                 ('conv.weight', 'bn.weight', 'bn.bias')}}
    for layer, wanted in names.items():
        assert set(layer.state_dict()) == wanted


@pytest.mark.parametrize('layer', LAYERS)
@pytest.mark.parametrize('train', [True, False])
def test_one_cell_and_no_image(layer, train):
    made = randomize(layer(4)).train(train)
    x = image(2, 4, 1, 1)
    assert gap(made(x), x) < 1e-6  # one cell has all the weight
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
    assert gap(norm(x), F.instance_norm(x, weight=norm.weight,
                                        bias=norm.bias).detach()) == 0


@pytest.mark.parametrize('layer', LAYERS)
def test_every_parameter_learns(layer):
    made = randomize(layer(4))
    made(image(2, 4, 8, 8)).square().sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize('layer', LAYERS)
def test_from_the_start_the_last_convolution_learns(layer):
    made = layer(4)
    made(image(2, 4, 8, 8)).square().sum().backward()
    assert made.last_conv.weight.grad.abs().max() > 0


@pytest.mark.parametrize('layer', LAYERS)
def test_autocast(layer):
    made = randomize(layer(4))
    x = image(2, 4, 8, 8)
    with torch.autocast('cpu', torch.bfloat16):
        out = made(x.bfloat16())
    assert out.dtype == torch.bfloat16
    assert gap(out.float(), made(x).detach()) < .1
    out.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in made.parameters())


@pytest.mark.parametrize('layer', LAYERS)
def test_copies_and_compiles(layer):
    made = randomize(layer(4))
    x = image(2, 4, 9, 8)
    assert torch.equal(copy.deepcopy(made)(x), made(x))
    compiled = torch.compile(made, backend='aot_eager', fullgraph=True)
    assert gap(compiled(x), made(x).detach()) < 1e-5
