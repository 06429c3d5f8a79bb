"""Show what a training run has come to, in two pictures and a table.

Reads a work directory of tools/train.py and writes into it:

    curves.png     losses, and the metric of each validation, over iterations
    val_grid.png   images of the validation set with boxes, true and predicted
"""
import argparse
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from mmdet.apis import inference_detector, init_detector  # noqa: E402
from mmdet.registry import DATASETS  # noqa: E402
from mmdet.utils import register_all_modules  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.fileio import get  # noqa: E402
from mmcv import imfrombytes  # noqa: E402

from mmgwap.checkpoint import safe_checkpoints  # noqa: E402

METRICS = ('coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75',
           'pascal_voc/mAP')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dir', type=Path)
    parser.add_argument('--images', type=int, default=12,
                        help='images in the grid (default: %(default)s)')
    parser.add_argument('--score-thr', type=float, default=0.5,
                        help='boxes below are not drawn (default: %(default)s)')
    parser.add_argument('--device', default='cpu',
                        help='default: %(default)s')
    return parser.parse_args()


def read_scalars(work_dir: Path) -> list:
    """All logged values, of all runs in the work directory, by iteration."""
    rows = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            # A resumed run goes over some iterations again: the last counts.
            kind = 'train' if 'loss' in row else 'val'
            rows[kind, row['step']] = row
    if not rows:
        sys.exit(f'{work_dir}: no */vis_data/scalars.json, so nothing was '
                 'trained here')
    return [rows[key] for key in sorted(rows)]


def draw_curves(rows: list, path: Path) -> dict:
    """Draw losses and metrics; returns the metrics of the last validation."""
    train = [row for row in rows if 'loss' in row]
    val = [row for row in rows if any(name in row for name in METRICS)]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    names = [name for name in train[0] if name.startswith('loss')]
    for name in names:
        left.plot([row['step'] for row in train],
                  [row.get(name, np.nan) for row in train], label=name,
                  linewidth=2 if name == 'loss' else 1)
    left.set(xlabel='iteration', ylabel='training loss', yscale='log')
    for name in METRICS:
        points = [(row['step'], row[name]) for row in val if name in row]
        if points:
            right.plot(*zip(*points), marker='o', label=name)
    right.set(xlabel='iteration', ylabel='validation', ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.14),
                        ncol=3, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return val[-1] if val else {}


def draw_grid(cfg: Config, checkpoint: str, args: argparse.Namespace,
              path: Path) -> None:
    """Draw images of the validation set with true and predicted boxes."""
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    model = init_detector(cfg, checkpoint, device=args.device)
    count = min(args.images, len(dataset))
    columns = min(4, count)
    lines = -(-count // columns)
    figure, axes = plt.subplots(lines, columns, squeeze=False,
                                figsize=(3 * columns, 3 * lines + 0.4))
    for axis in axes.flat:
        axis.axis('off')
    # Spread over the data set: neighbours may be frames of one scene.
    chosen = np.linspace(0, len(dataset) - 1, count).astype(int)
    for axis, index in zip(axes.flat, chosen):
        info = dataset.get_data_info(int(index))
        result = inference_detector(model, info['img_path'])
        axis.imshow(imfrombytes(get(info['img_path']), channel_order='rgb'))
        _draw_boxes(axis, info, result.pred_instances.cpu(), args.score_thr,
                    dataset.metainfo['classes'])
    figure.suptitle('white: true    colour: predicted, with class and score')
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_boxes(axis, info: dict, predicted, threshold: float,
                classes: tuple) -> None:
    for instance in info['instances']:
        _draw_box(axis, instance['bbox'], 'white', 2.5)
    for box, score, label in zip(predicted.bboxes, predicted.scores,
                                 predicted.labels):
        if score < threshold:
            continue
        colour = plt.get_cmap('tab10')(int(label) % 10)
        _draw_box(axis, box.tolist(), colour, 1.5)
        axis.text(float(box[0]), float(box[1]) - 1,
                  f'{classes[label]} {score:.2f}', color='white', fontsize=7,
                  va='bottom', clip_on=True,
                  bbox=dict(facecolor=colour, pad=1, linewidth=0))


def _draw_box(axis, box: list, colour, width: float) -> None:
    x1, y1, x2, y2 = box
    axis.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False,
                                 edgecolor=colour, linewidth=width))


def find_run(work_dir: Path) -> tuple:
    """Config and last checkpoint of a work directory."""
    configs = sorted(work_dir.glob('*.py'))
    if len(configs) != 1:
        sys.exit(f'{work_dir}: holds {len(configs)} configs (*.py), and '
                 'exactly one is needed; is it a work directory?')
    pointer = work_dir / 'last_checkpoint'
    if not pointer.is_file():
        sys.exit(f'{pointer}: missing, so no checkpoint was saved yet')
    # The folder may have moved since.
    checkpoint = work_dir / Path(pointer.read_text().strip()).name
    return Config.fromfile(configs[0]), checkpoint


def main() -> None:
    args = parse_args()
    cfg, checkpoint = find_run(args.work_dir)
    curves, grid = (args.work_dir / name
                    for name in ('curves.png', 'val_grid.png'))
    rows = read_scalars(args.work_dir)
    last = draw_curves(rows, curves)
    register_all_modules()
    with safe_checkpoints():
        draw_grid(cfg, str(checkpoint), args, grid)
    steps = [row['step'] for row in rows if 'loss' in row]
    seconds = sum(row['time'] for row in rows if 'loss' in row) \
        * max(steps) / len(steps)
    table = [('iterations', f'{max(steps)}'),
             ('time in training', f'{seconds / 60:.1f} min')]
    table += [(name, f'{last[name]:.3f}') for name in METRICS if name in last]
    table += [('checkpoint', checkpoint), ('curves', curves), ('grid', grid)]
    print()
    for name, value in table:
        print(f'{name:<18} {value}')


if __name__ == '__main__':
    main()
