"""Convert a checkpoint of a LabelGuidedTeacher or a MultiTaskDetector to one of its detector.

Of a LabelGuidedTeacher, the teacher is converted, or with --student the student. The image-level
head is left out. The result loads with the config of the plain detector.
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


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='checkpoint of a LabelGuidedTeacher or a MultiTaskDetector')
    parser.add_argument('dst', type=Path, help='file to write')
    parser.add_argument(
        '--student',
        action='store_true',
        help='convert the student of a LabelGuidedTeacher instead of its teacher',
    )
    parser.add_argument(
        '--config',
        type=Path,
        help='config of the plain detector, or of a model that contains it; the weights are '
        'checked against it',
    )
    return parser.parse_args()


def detector_weights(checkpoint: dict, path: str, student: bool = False) -> dict:
    """Return the weights of the detector without their prefixes.

    Args:
        checkpoint (dict): content of the checkpoint.
        path (str): path of the checkpoint, for errors.
        student (bool): whether to return the student's weights instead of the teacher's.
    """
    state = checkpoint.get('state_dict', checkpoint)
    side = 'student.' if student else 'teacher.'
    weights = _below(side, state)
    if student and not weights:
        sys.exit(f'{path}: has no weights named "{side}*", which --student asks for')
    detector = _below('detector.', weights or state)
    if not weights and not detector:
        sys.exit(
            f'{path}: has no weights named "detector.*" or "teacher.*"; a checkpoint of a '
            'LabelGuidedTeacher or a MultiTaskDetector is needed'
        )
    return detector or weights


def _below(prefix: str, state: dict) -> dict:
    """Return the entries whose names begin with a prefix, without it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def check_weights(weights: dict, path: Path) -> None:
    """End the process if the weights do not fit the detector of a config exactly."""
    register_all_modules()
    model = Config.fromfile(path).model
    while 'detector' in model:
        model = model.detector
    detector = MODELS.build(model)
    try:
        detector.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        sys.exit(f'{path}: does not fit the checkpoint: {" ".join(str(error).split())}')


def main() -> None:
    args = parse_args()
    with safe_checkpoints():
        checkpoint = _load_checkpoint(args.src, map_location='cpu')
    weights = detector_weights(checkpoint, args.src, args.student)
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
