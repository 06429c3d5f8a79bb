"""The converter of the authors' LIP checkpoints."""
import re

import pytest
import torch

from mmgwap.models.backbones import LIPDenseNet, LIPResNet
from tests.models.test_lip_backbones import authors_file, randomize

TOOL = 'tools/model_converters/lip_to_mmgwap.py'


@pytest.mark.parametrize('build,classifier,names', [
    (lambda: LIPResNet(50), 'fc', {}),
    (lambda: LIPResNet(101), 'fc', {}),
    (lambda: LIPDenseNet(121), 'classifier',
     {'pool0.logit.conv.': 'pool0.logit.conv1.',
      'pool0.logit.bn.': 'pool0.logit.bn1.'})], ids=['R50', 'R101', 'D121'])
def test_converts(tool, tmp_path, build, classifier, names):
    source, src = randomize(build()), tmp_path / 'src.pth'
    dst = tmp_path / 'new' / 'dst.pth'
    authors_file(source, src, {f'{classifier}.weight': (10, 4),
                               f'{classifier}.bias': (10, )}, **names)
    done = tool(TOOL, src, dst)
    assert f'tensors of {type(source).__name__}' in done.stdout
    found = torch.load(dst)
    assert list(found) == ['state_dict']
    assert found['state_dict'].keys() == source.state_dict().keys()
    for key, value in source.state_dict().items():
        assert torch.equal(found['state_dict'][key], value), key


def test_refuses(tool, tmp_path):
    src, dst = tmp_path / 'src.pth', tmp_path / 'dst.pth'
    state = LIPResNet(50).state_dict()
    for states, message in (
            ({'fc.weight': torch.zeros(1)}, 'no LIP-ResNet-50.*found nothing'),
            ({'conv1.weight': torch.zeros(1)}, 'found conv1.weight'),
            ({key: value for key, value in state.items()
              if key != 'layer2.0.conv2.1.weight'},
             r'Missing key.*layer2\.0\.conv2\.1\.weight'),
            ({**state, 'layer2.0.more': torch.zeros(1)},
             r'Unexpected key.*layer2\.0\.more')):
        torch.save(dict(state_dict=states), src)
        done = tool(TOOL, src, dst, check=False)
        assert done.returncode and not dst.exists()
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith(f'{src}: ') and re.search(message, last)
