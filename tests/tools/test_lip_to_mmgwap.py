"""Tests of tools/model_converters/lip_to_mmgwap.py."""

import re
import sys

import pytest
import torch

from mmgwap.models.backbones import LIPDenseNet, LIPResNet
from tests.models.test_lip_backbones import authors_file, randomize

TOOL = 'tools/model_converters/lip_to_mmgwap.py'


DENSENET_NAMES = {f'pool0.logit.{name}.': f'pool0.logit.{name}1.' for name in ('conv', 'bn')}


@pytest.mark.parametrize(
    'net, depth, classifier, names',
    [(LIPResNet, 50, 'fc', {}), (LIPDenseNet, 121, 'classifier', DENSENET_NAMES)],
)
def test_converts(tool, tmp_path, net, depth, classifier, names):
    source, src, dst = randomize(net(depth)), tmp_path / 'src.pth', tmp_path / 'new' / 'dst.pth'
    shapes = {f'{classifier}.weight': (10, 4), f'{classifier}.bias': (10,)}
    authors_file(source, src, shapes, **names)
    done = tool(TOOL, src, dst)
    assert f'tensors of {type(source).__name__}' in done.stdout
    found = torch.load(dst)
    assert list(found) == ['state_dict']
    assert found['state_dict'].keys() == source.state_dict().keys()
    for key, value in source.state_dict().items():
        assert torch.equal(found['state_dict'][key], value), key


@pytest.fixture
def converter(repo, monkeypatch):
    """The module of the tool."""
    monkeypatch.syspath_prepend(str(repo / 'tools' / 'model_converters'))
    import lip_to_mmgwap

    return lip_to_mmgwap


def test_recognizes_all_depths(converter):
    for net, depth in zip([LIPResNet] * 2 + [LIPDenseNet] * 2, (101, 152, 169, 201)):
        weights = net(depth).state_dict()
        found = converter.make_backbone(weights)
        assert type(found) is net
        found.load_state_dict(weights, strict=True)
    with pytest.raises(ValueError, match='expected LIP-ResNet-50'):
        converter.make_backbone(LIPResNet(18).state_dict())


def refusal(converter, monkeypatch, src):
    """Return the message that the tool ends with."""
    dst = src.with_name('dst.pth')
    monkeypatch.setattr(sys, 'argv', ['lip_to_mmgwap.py', str(src), str(dst)])
    with pytest.raises(SystemExit) as error:
        converter.main()
    assert not dst.exists() and '\n' not in error.value.code
    return error.value.code


@pytest.mark.parametrize('content', [None, b'junk', [1, 2], {0: 1}])
def test_refuses_other_files(converter, monkeypatch, tmp_path, content):
    src = tmp_path / 'src.pth'
    if isinstance(content, bytes):
        src.write_bytes(content)
    elif content is not None:
        torch.save(content, src)
    assert refusal(converter, monkeypatch, src).startswith(f'{src}: ')


def test_refuses_weights_that_do_not_fit(converter, monkeypatch, tmp_path):
    src = tmp_path / 'src.pth'
    state = LIPResNet(50).state_dict()
    missing = {key: value for key, value in state.items() if key != 'layer2.0.conv2.1.weight'}
    for weights, message in (
        ({'fc.weight': torch.zeros(1)}, 'LIP-ResNet-50.*found nothing'),
        ({'conv1.weight': torch.zeros(1)}, 'found conv1.weight'),
        (missing, r'Missing key.*layer2\.0\.conv2\.1\.weight'),
        ({**state, 'layer2.0.more': torch.zeros(1)}, r'Unexpected key.*layer2\.0\.more'),
    ):
        torch.save(dict(state_dict=weights), src)
        text = refusal(converter, monkeypatch, src)
        assert text.startswith(f'{src}: ') and re.search(message, text)
