"""Convert a checkpoint of a MultiTaskDetector to a checkpoint of its detector.

The image-level head is left out. The result loads with the config of the plain detector.
"""

import argparse
import sys
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.runner.checkpoint import _load_checkpoint

from mmgwap.checkpoint import safe_checkpoints

PREFIX = 'detector.'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='checkpoint of a MultiTaskDetector')
    parser.add_argument('dst', type=Path, help='file to write')
    parser.add_argument(
        '--config',
        type=Path,
        help='config of the plain or of the multi-task detector; the weights are checked '
        'against it',
    )
    return parser.parse_args()


def detector_weights(checkpoint: dict, path: str) -> dict:
    """Return the weights of the detector without their prefix."""
    state = checkpoint.get('state_dict', checkpoint)
    weights = {key[len(PREFIX) :]: value for key, value in state.items() if key.startswith(PREFIX)}
    if not weights:
        sys.exit(
            f'{path}: has no weights named "{PREFIX}*"; a checkpoint of a MultiTaskDetector is '
            'needed'
        )
    return weights


def check_weights(weights: dict, path: Path) -> None:
    """End the process if the weights do not fit the detector of a config exactly."""
    register_all_modules()
    model = Config.fromfile(path).model
    detector = MODELS.build(model.get('detector', model))
    try:
        detector.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        sys.exit(f'{path}: does not fit the checkpoint: {" ".join(str(error).split())}')


def main() -> None:
    args = parse_args()
    with safe_checkpoints():
        checkpoint = _load_checkpoint(args.src, map_location='cpu')
    weights = detector_weights(checkpoint, args.src)
    if args.config:
        check_weights(weights, args.config)
    meta = {
        key: value
        for key, value in checkpoint.get('meta', {}).items()
        if key in ('dataset_meta', 'epoch', 'iter', 'mmengine_version')
    }
    args.dst.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=weights, meta=meta), args.dst)
    print(f'{args.dst}: {len(weights)} tensors of the detector')


if __name__ == '__main__':
    main()
