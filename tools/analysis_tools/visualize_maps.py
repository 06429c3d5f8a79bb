"""Draw where a model sees the evidence for its classes.

The maps are those of the image-level head (ImageClassifier, MultiTaskDetector). For any other
detector, and with --method, they are gradient CAMs. Writes

    OUT/overlays/IMAGE_CLASS.png  map over its image, boxes and a colour bar
    OUT/maps/IMAGE_CLASS.npy      (H, W) float32, at the size of the image
    OUT/boxes.json                class, score and boxes of each map
    OUT/sheet.png                 contact sheet of the first maps
"""

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from input_images import LOADERS, InputImage, load_images
from mmdet.apis import init_detector
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmgwap.checkpoint import safe_checkpoints
from mmgwap.localization import GRADIENT_CAMS, boxes_from_map
from mmgwap.models import ImageClassifier, MultiTaskDetector, gradient_maps
from mmgwap.structures import maps_to_image
from mmgwap.visualization import Tile, save_overlay, save_sheet

SHEET_TILES = 60  # maximum number of maps in sheet.png


class ClassMap(NamedTuple):
    """The map of a class on an image.

    Attributes:
        label: index of the class.
        score: score of the class in [0, 1]; without an image-level score, the score of the
            best detection.
        score_map: (H, W), at the size of the original image.
        boxes: boxes (N, 4) around high values of the map.
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
    parser.add_argument('checkpoint', help='a file, or a name that mmengine loads: package://...')
    parser.add_argument(
        'input', help='an image, a folder of images, or a data set of the config: val, test, train'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/maps'), help='default: %(default)s'
    )
    classes = parser.add_mutually_exclusive_group()
    classes.add_argument('--classes', nargs='+', metavar='CLASS', help='maps of these classes')
    classes.add_argument(
        '--top-k', type=int, metavar='K', help='maps of the K most likely classes (default: 1)'
    )
    classes.add_argument(
        '--true', action='store_true', help='maps of the true classes, for a data set'
    )
    parser.add_argument(
        '--method',
        choices=['own', *GRADIENT_CAMS],
        help='default: own (image-level head) if the model has maps, else grad_cam',
    )
    parser.add_argument(
        '--layer', help='module whose output a gradient CAM explains (default: backbone)'
    )
    parser.add_argument('--index', type=int, help='which output of the module (default: the last)')
    parser.add_argument(
        '--box-threshold',
        type=float,
        default=0.2,
        help='share of the range of the map above which boxes are drawn (default: %(default)s)',
    )
    parser.add_argument(
        '--boxes',
        choices=['largest', 'all'],
        default='largest',
        help='box of the largest component, or of all components (default: %(default)s)',
    )
    parser.add_argument(
        '--limit', type=int, metavar='N', help='at most N images, spread over the input'
    )
    parser.add_argument(
        '--columns', type=int, default=6, help='columns of the sheet (default: %(default)s)'
    )
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    args = parser.parse_args()
    if args.true and args.input not in LOADERS:
        parser.error(f'--true needs a data set as input ({", ".join(LOADERS)}), got {args.input}')
    if not 0 <= args.box_threshold < 1:
        parser.error(f'--box-threshold must be in [0, 1), got {args.box_threshold}')
    for name in ('top_k', 'limit', 'columns'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be positive')
    return args


def load_model(args: argparse.Namespace) -> torch.nn.Module:
    """Load the model, let it return its maps if it has any, and set ``args.method``."""
    # Without cfg_options, mmdet reads cfg.model.backbone, which a wrapper does not have.
    # mmdet warns that a checkpoint without names of classes gets those of COCO.
    with safe_checkpoints(), warnings.catch_warnings(record=True):
        model = init_detector(
            Config.fromfile(args.config), args.checkpoint, device=args.device, cfg_options={}
        )
        meta = CheckpointLoader.load_checkpoint(args.checkpoint, 'cpu').get('meta', {})
    if not {'dataset_meta', 'CLASSES'} & set(meta):
        dataset = dict(model.cfg.test_dataloader.dataset, lazy_init=True)
        model.dataset_meta.update(DATASETS.build(dataset).metainfo)
    has_maps = isinstance(model, (ImageClassifier, MultiTaskDetector))
    if isinstance(model, ImageClassifier):
        model.test_cfg['with_maps'] = True
    elif has_maps:
        model.with_maps = True
    args.method = args.method or ('own' if has_maps else 'grad_cam')
    choices = ' or '.join(GRADIENT_CAMS)
    if args.method == 'own' and not has_maps:
        sys.exit(
            f'{args.config}: {type(model).__name__} has no image-level maps; use --method {choices}'
        )
    if args.method == 'own' and (args.layer, args.index) != (None, None):
        sys.exit(f'--layer and --index need a gradient CAM: --method {choices}')
    classes = list(model.dataset_meta['classes'])
    for name in args.classes or ():
        if name not in classes:
            sys.exit(f'--classes: {name!r} is not in the classes of the model: {classes[:20]}')
    return model


def class_scores(sample: DetDataSample, num_classes: int) -> torch.Tensor:
    """Return image-level scores (K,), or the score of the best detection of each class."""
    if 'pred_image_scores' not in sample:
        found = sample.pred_instances
        scores = found.scores.new_zeros(num_classes)
        return scores.scatter_reduce_(0, found.labels, found.scores, 'amax')
    if len(sample.pred_image_scores) != num_classes:
        sys.exit(
            f'the model has {len(sample.pred_image_scores)} classes, but its checkpoint names '
            f'{num_classes}; was it saved without its data set, or with another?'
        )
    return sample.pred_image_scores


def choose_labels(
    args: argparse.Namespace, image: InputImage, scores: torch.Tensor, classes: tuple[str, ...]
) -> list[int]:
    """Return the classes to draw on an image, by the options."""
    if args.classes:
        return [classes.index(name) for name in args.classes]
    if args.true:
        if image.labels is None:
            sys.exit(
                f'{image.path}: no boxes and no image labels in the data set, needed by --true'
            )
        return image.labels
    likely = scores.argsort(descending=True, stable=True)[: args.top_k or 1]
    return likely[scores[likely] > 0].tolist()


def class_maps(
    model: torch.nn.Module, image: InputImage, args: argparse.Namespace
) -> list[ClassMap]:
    """Compute the maps of an image and the boxes around their high values."""
    with torch.no_grad():
        (sample,) = model.test_step(image.data)
    classes = tuple(model.dataset_meta['classes'])
    scores = class_scores(sample, len(classes))
    found = []
    for label in choose_labels(args, image, scores, classes):
        if args.method == 'own':
            score_map = sample.pred_image_maps[label][None]
        else:
            layer, index = args.layer or 'backbone', -1 if args.index is None else args.index
            score_map = gradient_maps(model, image.data, label, args.method, layer, index)
        resized = maps_to_image(sample, score_map)[0].cpu().numpy()
        boxes = boxes_from_map(resized, args.box_threshold, args.boxes)
        found.append(ClassMap(label, float(scores[label]), resized, boxes))
    return found


def save_map(
    out: Path, image: InputImage, tile: Tile, class_map: ClassMap, class_name: str
) -> dict:
    """Write the overlay and the array of a map; return its entry of boxes.json."""
    stem = f'{image.name}_{class_name}'.replace('/', '_')
    save_overlay(tile, out / 'overlays' / f'{stem}.png')
    np.save(out / 'maps' / f'{stem}.npy', class_map.score_map.astype(np.float32))
    return {
        'image': image.path,
        'class': class_name,
        'score': class_map.score,
        'boxes': class_map.boxes.tolist(),
        'map': f'maps/{stem}.npy',
    }


def main() -> None:
    args = parse_args()
    register_all_modules()
    model = load_model(args)
    classes = tuple(model.dataset_meta['classes'])
    for name in ('overlays', 'maps'):
        (args.out / name).mkdir(parents=True, exist_ok=True)
    tiles, entries = [], []
    for image in load_images(args.input, model.cfg, args.limit):
        for class_map in class_maps(model, image, args):
            name = str(classes[class_map.label])
            title = f'{image.name[-24:]}: {name[:16]} {class_map.score:.2f}'
            true_boxes = image.boxes.get(class_map.label, ())
            tile = Tile(image.pixels, title, class_map.score_map, class_map.boxes, true_boxes)
            entries.append(save_map(args.out, image, tile, class_map, name))
            if len(tiles) < SHEET_TILES:
                tiles.append(tile)
    if not entries:
        sys.exit(f'{args.input}: the model detects no class in any image')
    (args.out / 'boxes.json').write_text(json.dumps(entries, indent=1))
    save_sheet(tiles, args.out / 'sheet.png', args.columns)
    empty = sum(not entry['boxes'] for entry in entries)
    print(
        f'{len(entries)} maps, {empty} of them without a box (class not detected, or constant '
        f'map); method {args.method}'
    )
    if len(tiles) < len(entries):
        print(f'sheet.png shows the first {len(tiles)} maps')
    print(args.out)


if __name__ == '__main__':
    main()
