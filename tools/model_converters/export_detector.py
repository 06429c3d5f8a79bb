"""Turn a checkpoint of a MultiTaskDetector into one of its plain detector.

The image-level head is left out, and mmdet's own config loads the rest.
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
    parser.add_argument('dst', type=Path, help='the file to write')
    parser.add_argument(
        '--config',
        type=Path,
        help='of the plain detector, or of the multi-task one:'
        ' check that it loads the result completely',
    )
    return parser.parse_args()


def detector_weights(checkpoint: dict, path: str) -> dict:
    """The weights of the plain detector."""
    state = checkpoint.get('state_dict', checkpoint)
    weights = {key[len(PREFIX) :]: value for key, value in state.items() if key.startswith(PREFIX)}
    if not weights:
        sys.exit(
            f'{path}: holds no weights under "{PREFIX}"; is it a checkpoint of a MultiTaskDetector?'
        )
    return weights


def check(weights: dict, path: Path) -> None:
    """End with the names of what the detector of a config lacks or adds."""
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
        check(weights, args.config)
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
