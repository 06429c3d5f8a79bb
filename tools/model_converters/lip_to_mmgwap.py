"""Convert a LIP checkpoint of the authors to a checkpoint of the backbone.

The classifier and the training state are left out, and the other weights must fill the backbone
completely. LIPResNet and LIPDenseNet also load the files of the authors unchanged; the converted
file is smaller and checked.
"""

import argparse
import re
import sys
from pathlib import Path

import torch
from mmengine.runner.checkpoint import _load_checkpoint

from mmgwap.checkpoint import safe_checkpoints
from mmgwap.models.backbones import LIPDenseNet, LIPResNet

# Depth of a bottleneck ResNet by the number of blocks in res4.
RESNETS = {6: 50, 23: 101, 36: 152}
# Depth of a DenseNet by the number of layers in its third and fourth block.
DENSENETS = {(24, 16): 121, (32, 32): 169, (48, 32): 201}
CLASSIFIERS = ('fc.', 'classifier.')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='checkpoint of the authors')
    parser.add_argument('dst', type=Path, help='file to write')
    return parser.parse_args()


def backbone_weights(path: str) -> dict:
    """Return all tensors except the classifier's, without the prefix of DataParallel.

    Raises:
        ValueError: if the file cannot be read, or holds no tensors by name.
    """
    try:
        with safe_checkpoints():
            state = _load_checkpoint(path, map_location='cpu')
    except Exception as error:  # unpickling raises errors of many types
        raise ValueError(f'cannot be read: {error}') from error
    if isinstance(state, dict):
        state = state.get('state_dict', state)
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ValueError('not a checkpoint: holds no tensors by name')
    state = {re.sub(r'^module\.', '', key): value for key, value in state.items()}
    return {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}


def make_backbone(weights: dict) -> torch.nn.Module:
    """Build the backbone that the names of the weights belong to.

    Raises:
        ValueError: if the names are not those of a LIP network.
    """
    if 'maxpool.logit.conv.weight' in weights:
        blocks = _count(weights, r'layer3\.(\d+)\.')
        if blocks in RESNETS and 'layer1.0.conv3.weight' in weights:
            return LIPResNet(RESNETS[blocks])
    if any(key.startswith('features.pool0.logit.') for key in weights):
        layers = tuple(
            _count(weights, rf'features\.denseblock{i}\.denselayer(\d+)\.') for i in (3, 4)
        )
        if layers in DENSENETS:
            return LIPDenseNet(DENSENETS[layers])
    raise ValueError(
        'expected LIP-ResNet-50, 101 or 152, or LIP-DenseNet-121, 169 or 201; '
        f'found {", ".join(list(weights)[:4]) or "nothing"} ...'
    )


def _count(weights: dict, pattern: str) -> int:
    """Count the different numbers that a pattern captures in the names."""
    return len({found.group(1) for found in (re.match(pattern, key) for key in weights) if found})


def main() -> None:
    args = parse_args()
    try:
        weights = backbone_weights(args.src)
        backbone = make_backbone(weights)
        backbone.load_state_dict(weights, strict=True)
    except (ValueError, RuntimeError) as error:
        sys.exit(f'{args.src}: {" ".join(str(error).split())}')
    args.dst.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=backbone.state_dict()), args.dst)
    print(f'{args.dst}: {len(backbone.state_dict())} tensors of {type(backbone).__name__}')


if __name__ == '__main__':
    main()
