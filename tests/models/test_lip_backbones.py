"""LIP-ResNet and LIP-DenseNet against the authors' definition."""

import logging
import re

import numpy as np
import pytest
import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint
from torch import nn

from mmgwap.models.backbones import LIPDenseNet, LIPResNet
from mmgwap.models.backbones.lip_resnet import LIPBasicBlock, LIPBottleneck
from mmgwap.models.layers import SimplifiedLIP
from mmgwap.models.layers.lip import InstanceNorm, LIPLayer
from tests.references import lip as reference

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def randomize(model, seed=0):
    """Draw weights and statistics at scales that keep features near one; return the model."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor, scale):
        return scale * torch.randn(tensor.shape, generator=generator)

    for name, tensor in model.state_dict().items():
        if name.endswith('running_var'):
            tensor.copy_(1 + draw(tensor, 0.1).abs())
        elif tensor.dim() == 4:
            tensor.copy_(draw(tensor, (1 / tensor[0].numel()) ** 0.5))
        elif name.endswith('weight'):
            tensor.copy_(1 + draw(tensor, 0.1))
        elif tensor.is_floating_point():
            tensor.copy_(draw(tensor, 0.1))
    model.eval()  # mmdet's ResNet returns None
    return model


def image(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def relative(a, b):
    a, b = (np.asarray(x.detach() if torch.is_tensor(x) else x) for x in (a, b))
    assert a.shape == b.shape
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.fixture(scope='module')
def resnet50():
    return randomize(LIPResNet(50))


@pytest.fixture(scope='module')
def densenet():
    return randomize(LIPDenseNet(121))


@pytest.mark.parametrize('depth', [50, pytest.param(101, marks=pytest.mark.slow)])
def test_resnet_equals_the_authors(depth):
    model, x = randomize(LIPResNet(depth)), image(2, 3, 75, 98)
    with torch.no_grad():
        outs, wanted = model(x), reference.Net(model.state_dict()).resnet(x, BLOCKS[depth])
    assert len(outs) == 4
    for out, right in zip(outs, wanted):
        assert relative(out, right) < 1e-4


def test_densenet_equals_the_authors(densenet):
    x = image(2, 3, 75, 98)
    with torch.no_grad():
        outs = densenet(x)
        state = {
            re.sub(r'pool0\.logit\.(conv|bn)', r'pool0.logit.\g<1>1', key): value
            for key, value in densenet.state_dict().items()
        }
        wanted = reference.Net(state).densenet(x, (6, 12, 24, 16))
    for out, right, channels in zip(outs, wanted, densenet.out_channels):
        assert out.shape[1] == channels
        assert relative(out, right) < 1e-4


def test_stem_equals_the_loops(resnet50):
    x = image(1, 3, 22, 19)
    with torch.no_grad():
        out = resnet50.maxpool(resnet50.relu(resnet50.norm1(resnet50.conv1(x))))
    wanted = reference.stem(x[0].double().numpy(), resnet50.state_dict())
    assert relative(out[0], wanted) < 1e-4


def test_downsampling_block_equals_the_loops():
    block = randomize(LIPBottleneck(8, 4))
    x = image(1, 8, 9, 6)
    with torch.no_grad():
        out = block(x)
    assert out.shape == (1, 16, 5, 3)
    wanted = reference.downsampling_block(x[0].double().numpy(), block.state_dict())
    assert relative(out[0], wanted) < 1e-4


@pytest.mark.parametrize(
    'build,features,params,flops',
    [
        (lambda: LIPResNet(50), 2048, 23.9e6, 5.33e9),
        pytest.param(lambda: LIPResNet(101), 2048, 42.9e6, 9.06e9, marks=pytest.mark.slow),
        pytest.param(lambda: LIPDenseNet(121), 1024, 8.7e6, 4.13e9, marks=pytest.mark.slow),
    ],
    ids=['R50', 'R101', 'D121'],
)
def test_size_and_cost_equal_the_paper(build, features, params, flops):
    """Compare with Table 2 of the paper, which includes the classifier.

    mmengine counts convolutions and norms, but no elementwise arithmetic.
    """
    model = nn.Sequential(build(), Classifier(features)).eval()
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    found = get_model_complexity_info(model, (3, 224, 224), show_table=False, show_arch=False)
    assert abs(found['flops'] / flops - 1) < 0.02
    counted = sum(p.numel() for p in model.parameters())
    assert abs(counted / params - 1) < 0.02


class Classifier(nn.Linear):
    def __init__(self, features):
        super().__init__(features, 1000)

    def forward(self, maps):
        return super().forward(maps[-1].mean(dim=(2, 3)))


def test_dilated_stage_contains_the_strided_stage():
    """Every second cell of R-FCN's res5 of stride 1 equals a cell of res5 of stride 2."""
    strided = randomize(LIPResNet(50))
    dense = LIPResNet(50, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))
    dense.eval()
    dense.load_state_dict(strided.state_dict(), strict=True)
    x = image(1, 3, 96, 112)
    with torch.no_grad():
        coarse, fine = strided(x)[-1], dense(x)[-1]
    assert fine.shape[2:] == (6, 7)
    assert relative(fine[..., ::2, ::2], coarse) < 1e-5


def test_basic_blocks():
    model = randomize(LIPResNet(18))
    x = image(2, 3, 64, 80)
    outs = model(x)
    assert [out.shape[1:] for out in outs] == [(64, 16, 20), (128, 8, 10), (256, 4, 5), (512, 2, 3)]
    block = model.layer2[0]
    assert isinstance(block, LIPBasicBlock)
    with torch.no_grad():
        pooled = block.lip(outs[0])
        out = block.norm1(block.conv1(pooled)).relu()
        out = block.norm2(block.conv2(out)) + block.downsample(pooled)
    assert relative(block(outs[0]), out.relu()) < 1e-6


@pytest.mark.parametrize('size', [(33, 47), (1, 1)])
@pytest.mark.parametrize('build', [lambda: LIPResNet(18), lambda: LIPResNet(50)])
def test_odd_sizes_train(build, size):
    model = build()
    model.train()
    outs = model(image(1, 3, *size))
    sum(out.square().mean() for out in outs).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    for out, stride in zip(outs, (4, 8, 16, 32)):
        assert out.shape[2:] == tuple(-(-side // stride) for side in size)


def test_densenet_names_the_size_of_a_small_image(densenet):
    assert densenet(image(1, 3, 29, 29))[-1].shape[2:] == (1, 1)
    with pytest.raises(ValueError, match='1 x 1 is too small for windows'):
        densenet(image(1, 3, 28, 28))


@pytest.mark.parametrize('build', [lambda: LIPResNet(50), lambda: LIPDenseNet(121)])
def test_empty_batch_and_channels_last(build):
    model = randomize(build())
    outs = model(torch.zeros(0, 3, 64, 64))
    assert [len(out) for out in outs] == 4 * [0]
    sum(out.sum() for out in outs).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
    with torch.no_grad():
        x = image(2, 3, 64, 64)
        for out, last in zip(model(x), model(x.contiguous(memory_format=torch.channels_last))):
            assert relative(last, out) < 1e-5


@pytest.mark.slow  # test_lip_layers.py compiles the layers
def test_compiles(resnet50):
    compiled = torch.compile(resnet50, backend='aot_eager', fullgraph=True, dynamic=True)
    for size in ((2, 3, 64, 64), (3, 3, 70, 96)):
        x = image(*size)
        with torch.no_grad():
            for out, eager in zip(compiled(x), resnet50(x)):
                assert relative(out, eager) < 1e-5


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
    'build', [lambda: LIPResNet(18), pytest.param(lambda: LIPDenseNet(121), marks=pytest.mark.slow)]
)
def test_exports_to_onnx(build, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    model, path = randomize(build()), tmp_path / 'model.onnx'
    x = image(2, 3, 64, 96)
    torch.onnx.export(
        model,
        (x,),
        path,
        opset_version=16,
        dynamo=False,
        input_names=['x'],
        dynamic_axes=dict(x={0: 'batch', 2: 'h', 3: 'w'}),
    )
    session = onnxruntime.InferenceSession(path)
    for batch in (x, image(1, 3, 75, 98)):
        for found, out in zip(session.run(None, dict(x=batch.numpy())), model(batch)):
            assert relative(found, out) < 1e-3


def frozen_children(model):
    return {key.split('.')[0] for key, p in model.named_parameters() if not p.requires_grad}


def test_resnet_freezing():
    model = LIPResNet(50, frozen_stages=1, norm_eval=True)
    model.train()
    assert frozen_children(model) == {'conv1', 'bn1', 'maxpool', 'layer1'}
    assert not model.maxpool.training and model.layer2.training
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert frozen_children(LIPResNet(18, frozen_stages=0)) == {'conv1', 'bn1', 'maxpool'}
    unfrozen = LIPResNet(18, frozen_stages=-1, norm_eval=False)
    unfrozen.train()
    assert not frozen_children(unfrozen)
    assert all(m.training for m in unfrozen.modules())


def test_densenet_freezing():
    stages = [
        {'conv0', 'norm0', 'pool0'},
        {'denseblock1', 'transition1'},
        {'denseblock2', 'transition2'},
        {'denseblock3', 'transition3'},
        {'denseblock4', 'norm5'},
    ]
    for count in range(-1, 5):
        model = LIPDenseNet(121, frozen_stages=count).train()
        frozen = frozen_children(model.features)
        assert frozen == set().union(*stages[: count + 1])
        assert all(
            model.features[name].training != (name in frozen) for name in set().union(*stages)
        )
    model = LIPDenseNet(121, norm_eval=True).train()
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert model.features['pool0'].training


@pytest.mark.parametrize(
    'build,blocks',
    [
        (lambda cp: LIPResNet(50, with_cp=cp, norm_eval=True), 16),
        (lambda cp: LIPResNet(18, with_cp=cp, norm_eval=True), 8),
        (lambda cp: LIPDenseNet(121, with_cp=cp, norm_eval=True), 58),
    ],
)
@pytest.mark.filterwarnings('ignore')
def test_checkpointing_changes_nothing(build, blocks, monkeypatch):
    from torch.utils import checkpoint

    plain, calls = checkpoint.checkpoint, []

    def count(*args, **kwargs):
        calls.append(args[0])
        return plain(*args, **kwargs)

    monkeypatch.setattr(checkpoint, 'checkpoint', count)
    found = []
    for with_cp in (False, True):
        model = randomize(build(with_cp))
        model.train()
        x = image(1, 3, 64, 64)
        model(x)[-1].square().mean().backward()
        assert len(calls) == blocks * with_cp
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        assert (grad - found[1][name]).abs().max() <= 1e-4 * max(grad.abs().max(), 1e-3), name


def test_init_starts_from_average_pooling_and_identity():
    model = LIPResNet(50)
    model.init_weights()
    poolings = [module for module in model.modules() if isinstance(module, LIPLayer)]
    assert len(poolings) == 7
    for pooling in poolings:
        *_, last = [m for m in pooling.modules() if isinstance(m, InstanceNorm)]
        assert not last.weight.any() and not last.bias.any()
    assert not model.layer2[0].norm3.weight.any()  # zero_init_residual
    assert not model.layer2[1].norm3.weight.any()
    assert model.layer2[0].bottleneck_shared.logit.conv1.weight.std() > 0.01
    small = LIPDenseNet(121)
    small.init_weights()
    assert not small.features['pool0'].logit.bn.weight.any()
    assert not small.features['transition2'].pool.logit.bn3.weight.any()
    # He's deviation for the outputs of the stem, 7 x 7 x 64
    wanted = (2 / (49 * 64)) ** 0.5
    assert abs(small.features['conv0'].weight.std() / wanted - 1) < 0.05


def test_options_of_resnet():
    context = dict(type='ContextBlock', ratio=1 / 16)
    stages = (False, True, True, True)
    model = LIPResNet(
        50,
        deep_stem=True,
        plugins=[dict(cfg=context, stages=stages, position='after_conv3')],
        base_channels=16,
        norm_cfg=dict(type='GN', num_groups=4),
        out_indices=(1, 3),
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=stages,
    )
    model.train()
    outs = model(image(1, 3, 64, 64))
    assert [out.shape[1:] for out in outs] == [(128, 8, 8), (512, 2, 2)]
    sum(out.mean() for out in outs).backward()
    assert all(p.grad is not None for p in model.parameters())
    blocks = (model.layer2[0], model.layer2[1], model.layer1[1])
    kinds = [type(block.conv2).__name__ for block in blocks]
    assert kinds == ['Sequential', 'ModulatedDeformConv2dPack', 'Conv2d']
    assert hasattr(model.layer2[0], 'context_block')


@pytest.mark.parametrize(
    'build,message',
    [
        (lambda: LIPResNet(50, style='caffe'), "got 'caffe'"),
        (lambda: LIPResNet(50, avg_down=True), 'avg_down must be False'),
        (lambda: LIPDenseNet(161), 'got 161'),
        (lambda: LIPDenseNet(121, out_indices=(4,)), r'0 to 3, got \(4,\)'),
        (lambda: LIPDenseNet(121, out_indices=()), r'0 to 3, got \(\)'),
        (lambda: LIPDenseNet(121, frozen_stages=5), '-1 to 4, got 5'),
    ],
)
def test_wrong_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize('place', [1, 2, 3])
def test_position_of_plugins_in_a_downsampling_block(place):
    plugins = [dict(cfg=dict(type='ContextBlock', ratio=1 / 4), position=f'after_conv{place}')]
    block = LIPBottleneck(16, 4, plugins=plugins)
    seen = {}
    for name in ('norm1', 'norm2', 'norm3', 'context_block'):
        getattr(block, name).register_forward_hook(
            lambda module, given, out, name=name: seen.setdefault(name, out)
        )
    block(image(1, 16, 8, 8))
    assert list(seen).index('context_block') == place
    channels = 16 if place == 3 else 4
    assert seen['context_block'].shape[1] == channels


def test_strides_and_dilations_of_basic_blocks():
    """Each stage of basic blocks that downsamples has LIP, also res2."""
    model = LIPResNet(18, strides=(2, 2, 1, 1))
    model.eval()
    assert [out.shape[2:] for out in model(image(1, 3, 64, 64))] == [(8, 8), (4, 4), (4, 4), (4, 4)]
    lips = {name for name, module in model.named_modules() if isinstance(module, LIPBasicBlock)}
    assert lips == {'layer1.0', 'layer2.0'}
    assert isinstance(model.maxpool, SimplifiedLIP)
    model = LIPResNet(18, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))
    assert [block.conv1.dilation for block in model.layer4] == [(2, 2)] * 2
    assert model.layer3[0].conv1.dilation == (1, 1)


def authors_file(model, path, classifier, **names):
    """Write a checkpoint as the authors' training script does."""
    state = {f'module.{key}': value for key, value in model.state_dict().items()}
    for key, shape in classifier.items():
        state[f'module.{key}'] = torch.zeros(shape)
    for old, new in names.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    torch.save(dict(epoch=90, arch='lip', state_dict=state, best_acc1=78.0), path)


def loaded_log(model, path, caplog):
    """Load a checkpoint into a model; return mmengine's log."""
    with caplog.at_level(logging.INFO):
        load_checkpoint(model, str(path), map_location='cpu', logger=logging.getLogger('lip'))
    return caplog.text


def assert_equal_states(model, source):
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_checkpoint_of_the_authors_resnet_loads(resnet50, tmp_path, caplog):
    path, model = tmp_path / 'lip.pth', LIPResNet(50)
    authors_file(resnet50, path, {'fc.weight': (1000, 2048), 'fc.bias': (1000)})
    text = loaded_log(model, path, caplog)
    assert 'missing keys' not in text
    assert 'unexpected key in source state_dict: fc.weight, fc.bias\n' in text
    assert_equal_states(model, resnet50)


def test_checkpoint_of_the_authors_densenet_loads(densenet, tmp_path, caplog):
    path, model = tmp_path / 'lip.pth', LIPDenseNet(121)
    authors_file(
        densenet,
        path,
        {'classifier.weight': (1000, 1024), 'classifier.bias': (1000,)},
        **{'pool0.logit.conv.': 'pool0.logit.conv1.', 'pool0.logit.bn.': 'pool0.logit.bn1.'},
    )
    text = loaded_log(model, path, caplog)
    assert 'missing keys' not in text
    assert 'unexpected key in source state_dict: classifier.weight, classifier.bias\n' in text
    assert_equal_states(model, densenet)


def test_init_cfg_loads_a_checkpoint(densenet, resnet50, tmp_path):
    path = tmp_path / 'source.pth'
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    for source, net, depth in ((densenet, LIPDenseNet, 121), (resnet50, LIPResNet, 50)):
        torch.save(dict(state_dict=source.state_dict()), path)
        model = net(depth, init_cfg=init_cfg)
        model.init_weights()
        assert_equal_states(model, source)


@pytest.mark.parametrize('depth', [18, 50])
def test_torchvision_checkpoint_loads_the_common_layers(depth, tmp_path, caplog):
    from mmdet.models import ResNet

    source, path = randomize(ResNet(depth)), tmp_path / 'resnet.pth'
    torch.save(source.state_dict(), path)
    model = LIPResNet(depth)
    text = loaded_log(model, path, caplog)
    state, left, loaded = model.state_dict(), [], set()
    for key, value in source.state_dict().items():
        name = key.replace('sample.0.', 'sample.conv.').replace('sample.1.', 'sample.bn.')
        if name in state:
            assert torch.equal(state[name], value), name
            loaded.add(name)
        else:
            left.append(key)
    blocks = [] if depth == 18 else [f'layer{i}.0.conv2.weight' for i in (2, 3, 4)]
    assert left == blocks
    for key in blocks:
        assert key in text.split('unexpected key')[1].split('\n')[0]
    fresh = set(state) - loaded
    assert all(re.search(r'lip|logit|postprocessing|\.conv2\.1\.', key) for key in fresh)
    missing = text.split('missing keys in source state_dict: ')[1]
    assert set(missing.split('\n')[0].split(', ')) == fresh


def test_older_torchvision_densenets_load(densenet):
    state = {
        re.sub(r'(denselayer\d+\.(?:norm|conv))([12])\.', r'\1.\2.', key): value
        for key, value in densenet.state_dict().items()
    }
    assert 'features.denseblock1.denselayer1.norm.1.weight' in state
    model = LIPDenseNet(121)
    model.load_state_dict(state, strict=True)
    key = 'features.denseblock4.denselayer16.conv2.weight'
    assert torch.equal(model.state_dict()[key], densenet.state_dict()[key])


def test_old_names_load_below_a_prefix(resnet50):
    whole = nn.ModuleDict(dict(backbone=LIPResNet(50)))
    whole.load_state_dict(
        {
            'backbone.' + key.replace('sample.conv', 'sample.0').replace('sample.bn', 'sample.1'): v
            for key, v in resnet50.state_dict().items()
        },
        strict=True,
    )
    assert_equal_states(whole['backbone'], resnet50)
