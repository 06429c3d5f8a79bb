"""The CAM paper's nets: AlexNet, VGG and GoogLeNet as backbones."""

import logging
import re
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from torch import nn

from mmgwap.models.backbones import VGG, AlexNet, GoogLeNet
from tests.references import googlenet as reference

from .conftest import batch

register_all_modules()
BASES = Path(__file__).resolve().parents[2] / 'configs/_base_/models'
NETS = dict(
    alexnet=AlexNet,
    vgg11=lambda **kwargs: VGG(11, **kwargs),
    vgg16=lambda **kwargs: VGG(16, **kwargs),
    vgg16_bn=lambda **kwargs: VGG(16, with_bn=True, **kwargs),
    googlenet=GoogLeNet,
)
STAGES = {'alexnet': None, 'vgg11': 5, 'vgg16_bn': 5, 'googlenet': 3}
SIZES = [(97, 131), pytest.param((64, 85), marks=pytest.mark.slow)]
# Names and shapes of the tensors in torchvision's files, and their number.
FILES = dict(
    alexnet=(reference.alexnet_shapes(), 16),
    vgg11=(reference.vgg_shapes(11), 22),
    vgg16_bn=(reference.vgg_shapes(16, with_bn=True), 97),
    googlenet=(reference.googlenet_shapes(), 364),
)


@pytest.fixture(params=['alexnet', 'vgg11', 'vgg16_bn', 'googlenet'])
def name(request):
    """Name of a net. VGG 16 without norms has no code of its own."""
    return request.param


def everything(name):
    """Build the net with all outputs."""
    stages = STAGES[name]
    return NETS[name](**dict(out_indices=range(stages)) if stages else {})


def random_state(shapes, seed=0):
    """Draw a checkpoint whose features have a standard deviation of about 1."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        if len(shape) == 2:  # classifiers, which are not loaded
            state[key] = torch.zeros(1).expand(shape)
            continue
        drawn = torch.randn(shape, generator=generator)
        if key.endswith('tracked'):
            drawn = torch.tensor(7)
        elif key.endswith('running_var'):
            drawn = 1 + 0.3 * drawn.abs()
        elif len(shape) == 4:
            drawn *= (2 / drawn[0].numel()) ** 0.5
        elif len(shape) == 1:
            drawn = 0.1 * drawn + key.endswith('weight')
        state[key] = drawn
    return state


def image(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def loaded(name, path):
    """Return the net with all outputs and the checkpoint that it loaded."""
    torch.save(random_state(FILES[name][0]), path)
    model = everything(name)
    load_checkpoint(model, str(path), map_location='cpu', logger=logging.getLogger('cam'))
    return model.eval(), torch.load(path)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_features_equal_the_reference(name, size, tmp_path):
    model, state = loaded(name, tmp_path / 'net.pth')
    x = image(1, 3, *size)
    with torch.no_grad():
        outs = model(x)
        if name == 'alexnet':
            wanted = [reference.alexnet(state, x)]
        elif name == 'googlenet':
            wanted = reference.googlenet(state, x)
        else:
            wanted = reference.vgg(state, x, model_depth(name), 'bn' in name)
    assert len(outs) == len(wanted) == (STAGES[name] or 1)
    for out, right in zip(outs, wanted):
        assert 0.01 < right.std() < 100
        torch.testing.assert_close(out, right, rtol=1e-4, atol=1e-5)


def model_depth(name):
    return int(re.search(r'\d+', name)[0])


@pytest.mark.parametrize('depth, with_bn', [(13, True), (16, False), (19, False)])
def test_vgg_depths(depth, with_bn):
    """Names and shapes are those of torchvision, without the classifier."""
    shapes = {key: tuple(value.shape) for key, value in VGG(depth, with_bn).state_dict().items()}
    wanted = reference.vgg_shapes(depth, with_bn).items()
    assert shapes == {key: shape for key, shape in wanted if key.startswith('features.')}


def test_torchvision_checkpoints_load_completely(name, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        model, state = loaded(name, tmp_path / 'net.pth')
    assert len(state) == FILES[name][1]
    own = model.state_dict()
    left = [key for key in state if key not in own]
    heads = {'googlenet': ('aux1.', 'aux2.', 'fc.')}.get(name, 'classifier.')
    assert left == [key for key in state if key.startswith(heads)]
    assert 'missing keys' not in caplog.text
    assert 'size mismatch' not in caplog.text
    message = re.search('unexpected key in source state_dict: (.*)', caplog.text)
    assert set(message[1].split(', ')) == set(left)
    assert len(own) == len(state) - len(left)
    for key, value in own.items():
        assert torch.equal(value, state[key]), key


def test_unused_weights_are_logged(tmp_path, caplog):
    path = tmp_path / 'net.pth'
    torch.save(random_state(FILES['googlenet'][0]), path)
    model = GoogLeNet()
    with caplog.at_level(logging.INFO):
        load_checkpoint(model, str(path), logger=logging.getLogger('cam'))
    assert not [key for key in model.state_dict() if 'inception5' in key]
    assert 'missing keys' not in caplog.text
    assert 'inception5b.branch4.1.conv.weight' in caplog.text
    assert 'inception4e' not in caplog.text


def test_init_cfg_loads_a_checkpoint(name, tmp_path):
    source, state = loaded(name, tmp_path / 'net.pth')
    model = NETS[name](init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'net.pth')))
    model.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_torchvision_agrees(name):
    """Compare names, shapes and features, if torchvision is installed."""
    try:
        models = pytest.importorskip('torchvision.models')
    except RuntimeError as error:  # of another torch
        pytest.skip(f'torchvision does not fit this torch: {error}')
    options = dict(aux_logits=True, transform_input=False, init_weights=False)
    theirs = getattr(models, name)(**options if name == 'googlenet' else {}).eval()
    shapes = FILES[name][0]
    state = theirs.state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes
    theirs.load_state_dict(random_state(shapes))
    mine = NETS[name]()
    mine.load_state_dict(
        {key: value for key, value in theirs.state_dict().items() if key in mine.state_dict()}
    )
    last = theirs.inception4e if name == 'googlenet' else theirs.features[-2]
    found = []
    last.register_forward_hook(lambda module, given, out: found.append(out.clone()))
    x = image(1, 3, 97, 131)
    with torch.no_grad():
        theirs(x)
        (out,) = mine.eval()(x)
    torch.testing.assert_close(out, found[0], rtol=1e-5, atol=1e-5)


def test_googlenet_config_normalises_as_torchvision():
    """Compare with torchvision's ``transform_input`` of ImageNet's normalisation."""
    preprocessor = Config.fromfile(BASES / 'cam_googlenet.py').model.data_preprocessor
    usual = Config.fromfile(BASES / 'cam_r50.py').model.data_preprocessor
    pixels = torch.rand(2, 3, 4, 4) * 255

    def normalised(cfg):
        mean, std = (torch.tensor(cfg[key]).view(3, 1, 1) for key in ('mean', 'std'))
        return (pixels - mean) / std

    given = normalised(usual)
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    wanted = given * (std / 0.5) + (mean - 0.5) / 0.5
    # 1e-5 is about 1e-3 grey levels
    torch.testing.assert_close(normalised(preprocessor), wanted, rtol=0, atol=1e-5)


def test_smallest_images():
    for build, side in ((AlexNet, 31), (NETS['vgg16'], 16), (GoogLeNet, 15)):
        model = build().eval()
        assert model(image(1, 3, side, side))[0].shape[2:] == (1, 1)
        with pytest.raises(RuntimeError, match='too small'):
            model(image(1, 3, side - 1, side))


def test_empty_batch(name):
    (out,) = NETS[name]()(torch.zeros(0, 3, 64, 96))
    assert len(out) == 0 and out.shape[1] > 0
    out.sum().backward()


@pytest.mark.parametrize('build, stages', [(GoogLeNet, 3), (NETS['vgg11'], 5)])
def test_out_indices(build, stages):
    """Each choice gives the same features and has no unused layer."""
    whole = build(out_indices=tuple(range(stages))).eval()
    x = image(1, 3, 64, 48)
    outs = whole(x)
    for indices in [(stage,) for stage in range(stages)] + [(0, 2)]:
        model = build(out_indices=list(indices)).eval()
        own = model.state_dict()
        model.load_state_dict({k: value for k, value in whole.state_dict().items() if k in own})
        found = model(x)
        assert len(found) == len(indices)
        for index, out in zip(indices, found):
            torch.testing.assert_close(out, outs[index], rtol=0, atol=0)
        found[-1].sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def test_initial_features_have_a_useful_scale(name):
    """Features neither vanish nor explode, and norms start as the identity."""
    torch.manual_seed(0)
    model = NETS[name]()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 9.0)
    model.init_weights()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all((norm.weight == 1).all() for norm in norms)
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    for conv in convs:
        assert conv.bias is None or not conv.bias.any()
        assert conv.weight.abs().max() < 5
    with torch.no_grad():
        (out,) = model.train()(image(2, 3, 96, 96))
    assert 0.2 < out.std() < 5


def test_init_cfg_of_the_user_reaches_every_convolution(name):
    model = NETS[name](init_cfg=dict(type='Constant', layer='Conv2d', val=0.5))
    model.init_weights()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert (module.weight == 0.5).all()


def frozen(model):
    """Return the names of frozen parameters."""
    return {key for key, p in model.named_parameters() if not p.requires_grad}


def test_alexnet_freezing():
    for count in range(-1, 6):
        model = AlexNet(frozen_stages=count)
        wanted = {
            f'features.{place}.{kind}'
            for place in (0, 3, 6, 8, 10)[: max(count, 0)]
            for kind in ('weight', 'bias')
        }
        assert frozen(model) == frozen(model.train()) == wanted


def test_vgg_freezing():
    ends = (4, 8, 15, 22, 28)  # of the stages, counted in Table 1 of the paper
    for count in range(-1, 6):
        model = VGG(11, with_bn=True, frozen_stages=count)
        end = (0, *ends)[max(count, 0)]
        wanted = {key for key, _ in model.named_parameters() if int(key.split('.')[1]) < end}
        assert frozen(model) == wanted
        assert model.eval().train() is model and frozen(model) == wanted
        for place, layer in enumerate(model.features):
            assert layer.training == (place >= end)


def test_googlenet_freezing():
    stages = [
        {'conv1', 'conv2', 'conv3'},
        {'inception3a', 'inception3b'},
        {f'inception4{block}' for block in 'abcde'},
        {'inception5a', 'inception5b'},
    ]
    for count in range(-1, 4):
        model = GoogLeNet(out_indices=(2,), frozen_stages=count)
        wanted = set().union(*stages[: count + 1])
        for _ in range(2):
            assert {key.split('.')[0] for key in frozen(model)} == wanted
            for child, module in model.named_children():
                if not child.startswith('maxpool'):
                    assert module.training == (child not in wanted), child
            assert model.eval().train() is model


@pytest.mark.parametrize('sync', [False, True])
@pytest.mark.parametrize('norm_eval', [False, True])
@pytest.mark.parametrize('build', [lambda **kwargs: VGG(11, with_bn=True, **kwargs), GoogLeNet])
def test_norm_eval(build, norm_eval, sync):
    model = build(norm_eval=norm_eval)
    if sync:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.train()
    kind = nn.SyncBatchNorm if sync else nn.BatchNorm2d
    norms = [module for module in model.modules() if isinstance(module, kind)]
    assert len(norms) >= 8
    assert all(norm.training != norm_eval and norm.weight.requires_grad for norm in norms)
    assert model.training


def test_norm_cfg():
    model = GoogLeNet(norm_cfg=dict(type='GN', num_groups=1))
    model.init_weights()
    assert isinstance(model.inception3a.branch1.bn, nn.GroupNorm)
    assert GoogLeNet().inception4e.branch3[1].bn.eps == 0.001


@pytest.mark.parametrize(
    'build, message',
    [
        (lambda: AlexNet(frozen_stages=6), 'AlexNet: frozen_stages.*-1, 5.*got 6'),
        (lambda: VGG(11, out_indices=(5,)), r'VGG: out_indices.*got \(5,\)'),
        (lambda: VGG(11, out_indices=(-1,)), r'out_indices.*got \(-1,\)'),
        (lambda: VGG(11, out_indices=(2,), frozen_stages=4), '-1, 3.*got 4'),
        (lambda: GoogLeNet(out_indices=(3,)), r'GoogLeNet: out_indices.*got \(3,\)'),
        (lambda: GoogLeNet(frozen_stages=-2), 'frozen_stages.*got -2'),
    ],
)
def test_arguments_out_of_range(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.fixture(params=['alexnet', 'vgg16', 'googlenet', 'r50'])
def base(request):
    """Base config with six classes and without pretrained weights."""
    cfg = Config.fromfile(BASES / f'cam_{request.param}.py').model
    weights = cfg.backbone.pop('init_cfg')
    assert weights == dict(
        type='Pretrained',
        checkpoint='torchvision://' + dict(r50='resnet50').get(request.param, request.param),
    )
    assert cfg.cls_head.num_classes == 1000
    cfg.cls_head.num_classes = 6
    return cfg


def test_base_configs_train_and_predict(base):
    torch.manual_seed(0)
    model = MODELS.build(base)
    model.init_weights()
    model.train()
    data = model.data_preprocessor(batch('..'), True)
    loss = model(**data, mode='loss')['loss_image']
    # Cross entropy of six classes with logits near zero.
    torch.testing.assert_close(loss.item(), torch.tensor(6.0).log().item(), rtol=0.5, atol=0)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.eval()
    with torch.no_grad():
        for sample in model.test_step(batch('..')):
            assert isinstance(sample, DetDataSample)
            assert sample.pred_image_scores.shape == (6,)
            assert abs(sample.pred_image_scores.sum() - 1) < 1e-5
            assert sample.pred_image_maps.shape[0] == 6


def test_base_configs_change_the_nets_as_the_paper(base):
    model = MODELS.build(base)
    head = model.cls_head
    assert not head.multi_label
    x = torch.zeros(1, 3, 224, 224)
    features = head.convs(model.extract_feat(x)[-1])
    if 'ResNet' in base.backbone.type:
        assert len(head.convs) == 0 and features.shape[1:] == (2048, 7, 7)
        return
    (conv,) = head.convs
    assert conv.conv.kernel_size == (3, 3) and not conv.with_norm
    assert conv.conv.bias is not None and isinstance(conv.activate, nn.ReLU)
    side = 13 if 'AlexNet' in base.backbone.type else 14
    assert features.shape == (1, 1024, side, side)
