"""convert_to_lip: replaced layers, kept weights, and the log."""

import copy
import logging

import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.models import FPN, ResNet
from torch import nn

from mmgwap.models.layers import BottleneckLIP, SimplifiedLIP, convert_to_lip
from mmgwap.models.layers.convert_lip import LIPConv2d
from mmgwap.models.layers.lip import LIPLayer
from mmgwap.ops import lip2d


def vgg(ceil_mode=False):
    """VGG's first three stages, narrower."""
    layers, channels = [], 3
    for width in (16, 32, 160):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, 2, ceil_mode=ceil_mode),
        ]
        channels = width
    return nn.Sequential(*layers)


def pyramid():
    return FPN([32, 64], 32, num_outs=4, add_extra_convs='on_output')


def image(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def kinds(model):
    return {name: type(module) for name, module in model.named_modules()}


@pytest.mark.parametrize('ceil_mode, inputs', [(False, None), (True, image(1, 3, 32, 32))])
def test_vgg(ceil_mode, inputs):
    model = vgg(ceil_mode)
    plain = copy.deepcopy(model)
    assert convert_to_lip(model, inputs) is model
    assert [type(model[i]) for i in (2, 5, 8)] == [SimplifiedLIP, SimplifiedLIP, BottleneckLIP]
    x = image(2, 3, 35, 52)
    assert model(x).shape == plain(x).shape
    assert model[0].weight.equal(plain[0].weight)
    # LIP starts as average pooling.
    stem = plain[:2](x)
    wanted = nn.functional.avg_pool2d(stem, 2, 2, ceil_mode=ceil_mode)
    assert (model[:3](x) - wanted).abs().max() < 1e-5
    model(x).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('depth, inputs', [(18, None), (50, image(1, 3, 32, 32))])
def test_resnet(depth, inputs):
    model = ResNet(depth)
    model.eval()
    x = image(1, 3, 75, 53)
    shapes = [out.shape for out in model(x)]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    convert_to_lip(model, inputs)
    assert [out.shape for out in model(x)] == shapes
    strided = 'conv1' if depth == 18 else 'conv2'
    found = kinds(model)
    assert found['maxpool'] is SimplifiedLIP and found['conv1'] is nn.Conv2d
    assert {name for name, kind in found.items() if kind is LIPConv2d} == {
        f'layer{i}.0.{name}' for i in (2, 3, 4) for name in (strided, 'downsample.0')
    }
    now = model.state_dict()
    for key, value in state.items():
        name = key if key in now else key.replace('.weight', '.conv.weight')
        assert torch.equal(now[name], value), key


@pytest.mark.parametrize('make', [lambda: ResNet(18), pyramid], ids=['ResNet', 'FPN'])
def test_init_weights_of_a_model_keeps_average_pooling(make):
    """A Runner calls init_weights after the conversion."""
    model = convert_to_lip(make())
    model.init_weights()
    poolings = [m for m in model.modules() if isinstance(m, LIPLayer)]
    assert poolings
    for module in poolings:
        channels = next(module.parameters()).shape[1]
        x = image(1, channels, 8, 8)
        pool = module.pool
        wanted = lip2d(x, torch.zeros(1, 1, 1, 1), pool.kernel_size, pool.stride, pool.padding)
        assert (module(x) - wanted).abs().max() < 1e-5


def test_weights_load_after_the_conversion(tmp_path):
    source, path = ResNet(18), tmp_path / 'resnet.pth'
    source.conv1.weight.data.fill_(3.0)
    source.layer3[0].conv1.weight.data.fill_(7.0)
    torch.save(source.state_dict(), path)
    model = convert_to_lip(ResNet(18, init_cfg=dict(type='Pretrained', checkpoint=str(path))))
    model.init_weights()
    assert (model.conv1.weight == 3).all()
    assert (model.layer3[0].conv1.conv.weight == 7).all()
    left = model.load_state_dict(source.state_dict(), strict=False)
    assert not left.unexpected_keys
    assert all('.lip.' in key or key.startswith('maxpool.') for key in left.missing_keys)
    model.load_state_dict(model.state_dict(), strict=True)
    conv = convert_to_lip(nn.Conv2d(16, 4, 1, 2))
    conv.load_state_dict(
        dict(conv.state_dict(), weight=torch.ones(4, 16, 1, 1), bias=torch.full((4,), 5.0))
    )
    assert (conv.conv.weight == 1).all() and (conv.conv.bias == 5).all()


def test_frozen_layers_stay_frozen():
    model = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 2, 1), nn.MaxPool2d(2))
    model[0].requires_grad_(False)
    convert_to_lip(model)
    assert not any(p.requires_grad for p in model[0].parameters())
    assert all(p.requires_grad for p in model[1:].parameters())
    frozen = nn.Sequential(nn.Conv2d(16, 16, 3), nn.MaxPool2d(2)).requires_grad_(False)
    assert not any(p.requires_grad for p in convert_to_lip(frozen).parameters())


def test_minimum_number_of_channels():
    assert isinstance(convert_to_lip(nn.Conv2d(15, 4, 3, 2, 1)), nn.Conv2d)
    assert isinstance(convert_to_lip(nn.Conv2d(16, 4, 3, 2, 1)), LIPConv2d)
    assert isinstance(convert_to_lip(nn.Conv2d(16, 4, 1, 2, 'valid')), LIPConv2d)


def test_convolution_keeps_its_weights_and_grid():
    conv = nn.Conv2d(16, 4, 3, stride=2, padding=1, groups=2)
    weight = conv.weight.clone()
    x = image(1, 16, 9, 7)
    shape = conv(x).shape
    made = convert_to_lip(conv)
    assert isinstance(made, LIPConv2d) and made.conv is conv
    assert conv.stride == (1, 1) and torch.equal(conv.weight, weight)
    wanted = conv(lip2d(x, torch.zeros(1, 1, 1, 1)))
    assert made(x).shape == shape
    assert (made(x) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize(
    'kernel,stride,padding,dilation',
    [(1, 2, 0, 1), (5, 3, 2, 1), (3, 4, 2, 2), ((3, 1), (2, 1), (1, 0), 1)],
)
@pytest.mark.parametrize('size', [(13, 16), (7, 9)], ids=str)
def test_output_sizes_are_kept(kernel, stride, padding, dilation, size):
    conv = nn.Conv2d(16, 4, kernel, stride, padding, dilation)
    x = image(2, 16, *size)
    shape = conv(x).shape
    assert convert_to_lip(conv)(x).shape == shape
    assert conv.stride == (1, 1)


def test_extra_levels_of_a_pyramid():
    neck = convert_to_lip(pyramid())
    assert isinstance(neck.fpn_convs[2].conv, LIPConv2d)
    assert isinstance(neck.fpn_convs[0].conv, nn.Conv2d)
    outs = neck((image(1, 32, 17, 16), image(1, 64, 9, 8)))
    assert [out.shape[2:] for out in outs] == [(17, 16), (9, 8), (5, 4), (3, 2)]


def test_the_log_lists_the_layers_that_are_kept(caplog, monkeypatch):
    monkeypatch.setattr(
        'mmgwap.models.layers.convert_lip.print_log',
        lambda text, logger: logging.getLogger('lip').info(text),
    )
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.MaxPool2d(3, 1, 1),
        nn.MaxPool2d(3, 2, 1, dilation=2),
        nn.Conv2d(16, 16, 2, 2),
        nn.MaxPool2d(2, return_indices=True),
        nn.Conv2d(16, 16, 3, 2, 1),
        nn.AvgPool2d(2),
    )
    before = kinds(model)
    with caplog.at_level(logging.INFO):
        convert_to_lip(model)
    (message,) = caplog.messages
    assert 'layers: 5;' in message
    for kept in ('0 (3 channels)', '2 (dilated)', '3 (padding', '4 (returns indices)'):
        assert kept in message
    assert all(type(model[i]) is before[str(i)] for i in (0, 1, 2, 3, 4, 6))


class Reuser(nn.Module):
    """Call the same pooling for maps of different widths."""

    def __init__(self, widths=(16, 32)):
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.convs = nn.ModuleList()
        channels = 3
        for width in widths:
            self.convs.append(nn.Conv2d(channels, width, 3, padding=1))
            channels = width

    def forward(self, x):
        for conv in self.convs:
            x = self.pool(conv(x))
        return x


def test_channels_of_a_pooling():
    with pytest.raises(ValueError, match='pool: number of channels is unknown'):
        convert_to_lip(Reuser())
    with pytest.raises(ValueError, match=r'pool: pools maps of \[16, 32\]'):
        convert_to_lip(Reuser(), image(1, 3, 16, 16))
    model = convert_to_lip(Reuser((16, 16)), image(1, 3, 16, 16))
    assert isinstance(model.pool, SimplifiedLIP)
    with pytest.raises(ValueError, match='number of channels is unknown'):
        convert_to_lip(nn.MaxPool2d(2))


def test_layer_with_two_names_stays_shared():
    model = nn.ModuleDict(dict(conv=nn.Conv2d(16, 16, 3, 2, 1)))
    model['again'] = model['conv']
    model['pool'] = model['other'] = nn.MaxPool2d(2)
    convert_to_lip(model)
    assert model['again'] is model['conv']
    assert model['other'] is model['pool']
    assert isinstance(model['pool'], SimplifiedLIP)


def test_forward_pass_for_channels_changes_no_state():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.Dropout())
    model[3].eval()
    model[1].weight.requires_grad_(False)
    convert_to_lip(model, image(1, 3, 16, 16))
    assert model.training and model[2].training and not model[3].training
    assert not model[1].running_mean.any()
    assert model[1].num_batches_tracked == 0
    assert not any(module._forward_hooks for module in model.modules())


def test_dtype_training_mode_and_build():
    model = vgg().double().eval()
    convert_to_lip(
        model, build=lambda channels, **windows: BottleneckLIP(channels, width=4, **windows)
    )
    assert isinstance(model[2], BottleneckLIP)
    assert model[2].logit.conv3.weight.dtype == torch.float64
    assert model[2].logit.conv3.weight.shape[1] == 4
    assert not model[2].training
    assert model(image(1, 3, 16, 16).double()).dtype == torch.float64


def test_second_conversion_changes_nothing():
    model = convert_to_lip(vgg())
    before = kinds(model)
    assert kinds(convert_to_lip(model)) == before


def test_conv_module_keeps_norm_and_activation():
    module = ConvModule(16, 16, 3, 2, 1, norm_cfg=dict(type='BN'))
    convert_to_lip(module)
    module.eval()
    x = image(1, 16, 8, 8)
    wanted = module.norm(module.conv.conv(module.conv.lip(x))).relu()
    assert torch.equal(module(x), wanted)
