"""Turn a LIP checkpoint of its authors into one of a backbone alone.

The classifier and the state of the training are left out, and the rest is
checked to fill the backbone completely.  LIPResNet and LIPDenseNet load the
authors' files as they are too; the result is smaller, and known to fit.
"""

import argparse
import re
import sys
from pathlib import Path

import torch
from mmengine.runner.checkpoint import _load_checkpoint

from mmgwap.checkpoint import safe_checkpoints
from mmgwap.models.backbones import LIPDenseNet, LIPResNet

# Blocks in res4 tell ResNets of bottlenecks apart.
RESNETS = {6: 50, 23: 101, 36: 152}
# Layers of the third and the fourth dense block.
DENSENETS = {(24, 16): 121, (32, 32): 169, (48, 32): 201}
CLASSIFIERS = ('fc.', 'classifier.')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help="the authors' checkpoint")
    parser.add_argument('dst', type=Path, help='the file to write')
    return parser.parse_args()


def backbone_weights(path: str) -> dict:
    """All tensors but the classifier's, without a wrapper's prefix.

    Raises:
        ValueError: if it can't be read, or holds no tensors by name.
    """
    try:
        with safe_checkpoints():
            state = _load_checkpoint(path, map_location='cpu')
    except Exception as error:  # whatever unpickling makes of other files
        raise ValueError(f'can not be read: {error}') from error
    if isinstance(state, dict):
        state = state.get('state_dict', state)
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ValueError('is no checkpoint: it holds no tensors by name')
    state = {re.sub(r'^module\.', '', key): value for key, value in state.items()}
    return {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}


def make_backbone(weights: dict) -> torch.nn.Module:
    """The backbone that the names of the weights belong to.

    Raises:
        ValueError: if they are not those of a LIP network.
    """
    if 'maxpool.logit.conv.weight' in weights:
        blocks = _count(weights, r'layer3\.(\d+)\.')
        if blocks in RESNETS and 'layer1.0.conv3.weight' in weights:
            return LIPResNet(RESNETS[blocks])
    if any(key.startswith('features.pool0.logit.') for key in weights):
        layers = tuple(
            _count(
                weights,
                rf'features\.denseblock{i}'
                r'\.denselayer(\d+)\.',
            )
            for i in (3, 4)
        )
        if layers in DENSENETS:
            return LIPDenseNet(DENSENETS[layers])
    raise ValueError(
        'holds no LIP-ResNet-50, 101 or 152 and no '
        'LIP-DenseNet-121, 169 or 201; found '
        f'{", ".join(list(weights)[:4]) or "nothing"} ...'
    )


def _count(weights: dict, pattern: str) -> int:
    """How many different numbers a pattern finds in the names."""
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
