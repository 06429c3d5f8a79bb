"""Draw where a model sees the evidence for its classes.

The maps of an image-level head (ImageClassifier, MultiTaskDetector) are its
own; of any other detector, and with --method, they are gradient CAMs.  Writes

    OUT/overlays/IMAGE_CLASS.png  the map over its image, the boxes, a colour bar
    OUT/maps/IMAGE_CLASS.npy      (H, W) float32, at the size of the image
    OUT/boxes.json                what each map shows
    OUT/sheet.png                 all of it, as a contact sheet
"""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmdet.apis import init_detector
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from pictures import SETS, Picture, pictures

from mmgwap.checkpoint import safe_checkpoints
from mmgwap.localization import GRADIENT_CAMS, boxes_from_map
from mmgwap.models import ImageClassifier, MultiTaskDetector, gradient_maps
from mmgwap.structures import maps_to_image
from mmgwap.visualization import Tile, save_overlay, save_sheet

SHEET = 60  # tiles; nobody looks at more


class Shown(NamedTuple):
    """What is seen of a class.

    Attributes:
        label: the class.
        score: of it, in [0, 1]; the best detection's where there is no score
            of the image.
        score_map: (H, W), at the size of the original image.
        boxes: (N, 4), read off the map.
    """

    label: int
    score: float
    score_map: np.ndarray
    boxes: np.ndarray


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path)
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument(
        'input',
        help='an image, a folder of images, or val, test or train: a data set of the config',
    )
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/maps'), help='default: %(default)s'
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--classes', nargs='+', metavar='CLASS', help='maps of these classes')
    what.add_argument(
        '--top-k', type=int, metavar='K', help='maps of the K likeliest classes (default: 1)'
    )
    what.add_argument('--true', action='store_true', help='maps of the true classes of a data set')
    parser.add_argument(
        '--method',
        choices=['own', *GRADIENT_CAMS],
        help='default: own if the model has maps, else grad_cam',
    )
    parser.add_argument('--layer', help='whose output gradient CAMs explain (default: backbone)')
    parser.add_argument('--index', type=int, help='which of its outputs (default: the last)')
    parser.add_argument(
        '--box-threshold',
        type=float,
        default=0.2,
        help='share of the maximum (default: %(default)s)',
    )
    parser.add_argument(
        '--boxes', choices=['largest', 'all'], default='largest', help='default: %(default)s'
    )
    parser.add_argument(
        '--limit', type=int, metavar='N', help='no more than N images, spread over the input'
    )
    parser.add_argument(
        '--columns', type=int, default=6, help='of the sheet (default: %(default)s)'
    )
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    args = parser.parse_args()
    if args.true and args.input not in SETS:
        parser.error(f'--true needs a data set, one of {", ".join(SETS)}')
    if not 0 <= args.box_threshold < 1:
        parser.error('--box-threshold must be in [0, 1)')
    for name in ('top_k', 'limit', 'columns'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be positive')
    return args


def load(args: argparse.Namespace) -> torch.nn.Module:
    """The model, giving its maps if it has any."""
    # Without options mmdet looks for a backbone, which a wrapper has not.
    with safe_checkpoints():
        model = init_detector(
            Config.fromfile(args.config), str(args.checkpoint), device=args.device, cfg_options={}
        )
    own = isinstance(model, (ImageClassifier, MultiTaskDetector))
    if isinstance(model, ImageClassifier):
        model.test_cfg['with_maps'] = True
    elif own:
        model.with_maps = True
    args.method = args.method or ('own' if own else 'grad_cam')
    if args.method == 'own' and (args.layer, args.index) != (None, None):
        sys.exit(
            '--layer and --index are of gradient CAMs; choose --method '
            f'{" or ".join(GRADIENT_CAMS)}'
        )
    if args.method == 'own' and not own:
        sys.exit(
            f'{args.config}: {type(model).__name__} has no maps of its '
            f'own; choose --method {" or ".join(GRADIENT_CAMS)}'
        )
    classes = model.dataset_meta['classes']
    for name in args.classes or ():
        if name not in classes:
            sys.exit(
                f'--classes: {name!r} is not among the classes of '
                f'{args.checkpoint}, {tuple(classes)}'
            )
    return model


def class_scores(sample: DetDataSample, num_classes: int) -> torch.Tensor:
    """Scores (K, ): of the image, or of each class's best detection."""
    if 'pred_image_scores' in sample:
        if len(sample.pred_image_scores) != num_classes:
            sys.exit(
                f'the model has {len(sample.pred_image_scores)} classes, '
                f'and its checkpoint names {num_classes}; was it saved '
                'with another data set, or none?'
            )
        return sample.pred_image_scores
    found = sample.pred_instances
    return found.scores.new_zeros(num_classes).scatter_reduce_(
        0, found.labels, found.scores, 'amax'
    )


def choose(
    args: argparse.Namespace, picture: Picture, scores: torch.Tensor, classes: tuple
) -> list[int]:
    """The classes to show."""
    if args.classes:
        return [classes.index(name) for name in args.classes]
    if args.true:
        if picture.labels is None:
            sys.exit(
                f'{picture.path}: the data set gives no classes; --true needs boxes or image labels'
            )
        return picture.labels
    likeliest = scores.argsort(descending=True, stable=True)[: args.top_k or 1]
    return likeliest[scores[likeliest] > 0].tolist()


def look(model: torch.nn.Module, picture: Picture, args: argparse.Namespace) -> list[Shown]:
    """The maps of an image, and the boxes that they show."""
    with torch.no_grad():
        (sample,) = model.test_step(picture.data)
    classes = tuple(model.dataset_meta['classes'])
    scores = class_scores(sample, len(classes))
    shown = []
    for label in choose(args, picture, scores, classes):
        if args.method == 'own':
            score_map = sample.pred_image_maps[label][None]
        else:
            score_map = gradient_maps(
                model,
                picture.data,
                label,
                args.method,
                args.layer or 'backbone',
                -1 if args.index is None else args.index,
            )
        on_image = maps_to_image(sample, score_map)[0].cpu().numpy()
        boxes = boxes_from_map(on_image, args.box_threshold, args.boxes)
        shown.append(Shown(label, float(scores[label]), on_image, boxes))
    return shown


def save(args: argparse.Namespace, picture: Picture, tile: Tile, one: Shown, name: str) -> dict:
    """Write the files of a map; returns its entry of boxes.json."""
    stem = f'{picture.name}_{name}'.replace('/', '_')
    save_overlay(tile, args.out / 'overlays' / f'{stem}.png')
    np.save(args.out / 'maps' / f'{stem}.npy', one.score_map.astype(np.float32))
    return dict(
        image=picture.path,
        **{'class': name},
        score=one.score,
        boxes=one.boxes.tolist(),
        map=f'maps/{stem}.npy',
    )


def main() -> None:
    args = parse_args()
    register_all_modules()
    model = load(args)
    classes = tuple(model.dataset_meta['classes'])
    for name in ('overlays', 'maps'):
        (args.out / name).mkdir(parents=True, exist_ok=True)
    tiles, entries = [], []
    for picture in pictures(args.input, model.cfg, args.limit):
        for one in look(model, picture, args):
            name = str(classes[one.label])
            tile = Tile(
                picture.image,
                f'{picture.name[-24:]}: {name[:16]} {one.score:.2f}',
                one.score_map,
                one.boxes,
                picture.boxes.get(one.label, ()),
            )
            entries.append(save(args, picture, tile, one, name))
            if len(tiles) < SHEET:
                tiles.append(tile)
    if not entries:
        sys.exit(f'{args.input}: the model finds nothing in any image')
    (args.out / 'boxes.json').write_text(json.dumps(entries, indent=1))
    save_sheet(tiles, args.out / 'sheet.png', args.columns)
    empty = sum(not entry['boxes'] for entry in entries)
    print(
        f'{len(entries)} maps, {empty} of them empty (a class that was not '
        f'detected, or a constant map); method {args.method}'
    )
    if len(tiles) < len(entries):
        print(f'the sheet has the first {len(tiles)} of them')
    print(args.out)


if __name__ == '__main__':
    main()
