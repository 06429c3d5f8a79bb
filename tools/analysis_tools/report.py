"""Show what a training run has come to, in two pictures and a table.

Reads a work directory of tools/train.py and writes into it:

    curves.png     losses, and the metric of each validation, over iterations
    val_grid.png   images of the validation set with boxes, true and predicted,
                   and with score maps if the model has an image-level head

With --beside, another run of the same data stands beside it in both.
"""

import argparse
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from grid import Column, draw_grid, load_model  # noqa: E402
from mmdet.utils import register_all_modules  # noqa: E402
from mmengine.config import Config  # noqa: E402

from mmgwap.checkpoint import safe_checkpoints  # noqa: E402

METRICS = ('coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75', 'pascal_voc/mAP', 'image/mAP')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dir', type=Path)
    parser.add_argument(
        '--beside', type=Path, metavar='WORK_DIR', help='another run, to compare with'
    )
    parser.add_argument(
        '--images', type=int, help='images in the grid (default: 12, or 6 with several columns)'
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.5,
        help='boxes below are not drawn (default: %(default)s)',
    )
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
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
        sys.exit(f'{work_dir}: no */vis_data/scalars.json, so nothing was trained here')
    return [rows[key] for key in sorted(rows)]


def draw_curves(runs: dict, path: Path) -> None:
    """Draw the losses of the first run, and the metrics of all."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    styles = iter(('-', ':'))
    for number, (name, rows) in enumerate(runs.items()):
        train = [row for row in rows if 'loss' in row]
        losses = [key for key in train[0] if key.startswith('loss')]
        for key in losses if number == 0 else ():
            left.plot(
                [row['step'] for row in train],
                [row.get(key, np.nan) for row in train],
                label=key,
                linewidth=2 if key == 'loss' else 1,
            )
        style = next(styles)
        for place, key in enumerate(METRICS):
            points = [(row['step'], row[key]) for row in rows if key in row]
            if points:
                label = key if len(runs) == 1 else f'{name}: {key}'
                right.plot(*zip(*points), style, marker='o', label=label, color=f'C{place}')
    left.set(xlabel='iteration', ylabel='training loss', yscale='log')
    right.set(xlabel='iteration', ylabel='validation', ylim=(0, 1))
    for axes, columns in ((left, 3), (right, 3 if len(runs) == 1 else 2)):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(
                loc='upper center',
                bbox_to_anchor=(0.5, -0.14),
                ncol=columns,
                frameon=False,
                fontsize=8,
            )
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def find_run(work_dir: Path) -> tuple:
    """Config and last checkpoint of a work directory."""
    configs = sorted(work_dir.glob('*.py'))
    if len(configs) != 1:
        sys.exit(
            f'{work_dir}: holds {len(configs)} configs (*.py), and '
            'exactly one is needed; is it a work directory?'
        )
    pointer = work_dir / 'last_checkpoint'
    if not pointer.is_file():
        sys.exit(f'{pointer}: missing, so no checkpoint was saved yet')
    # The folder may have moved since.
    checkpoint = work_dir / Path(pointer.read_text().strip()).name
    return Config.fromfile(configs[0]), checkpoint


def make_columns(work_dirs: list, device: str) -> list:
    """Boxes of each run, and the maps of the last."""
    columns = []
    for work_dir in work_dirs:
        cfg, checkpoint = find_run(work_dir)
        model = load_model(cfg, checkpoint, device)
        columns.append(Column(work_dir.name, model))
    if hasattr(model, 'cls_head'):
        columns.append(Column(f'{work_dir.name}: score maps', model, True))
    return columns


def print_table(runs: dict) -> None:
    """Print what each run has come to, a column each."""
    columns = [_summary(rows) for rows in runs.values()]
    lines = [['', *runs]] if len(runs) > 1 else []
    for key in dict.fromkeys(key for one in columns for key in one):
        lines.append([key, *(one.get(key, '') for one in columns)])
    for head, *cells in lines:
        cells = ''.join(f'{cell:<28}' for cell in cells)
        print(f'{head:<18} {cells}'.rstrip())


def _summary(rows: list) -> dict:
    train = [row for row in rows if 'loss' in row]
    steps = max(row['step'] for row in train)
    minutes = sum(row['time'] for row in train) / len(train) * steps / 60
    measured = [row for row in rows if any(key in row for key in METRICS)]
    last = measured[-1] if measured else {}
    return {
        'iterations': str(steps),
        'time in training': f'{minutes:.1f} min',
        **{key: f'{last[key]:.3f}' for key in METRICS if key in last},
    }


def main() -> None:
    args = parse_args()
    curves, grid = (args.work_dir / name for name in ('curves.png', 'val_grid.png'))
    work_dirs = [args.beside] * bool(args.beside) + [args.work_dir]
    cfg, checkpoint = find_run(args.work_dir)
    if len({work_dir.name for work_dir in work_dirs}) < len(work_dirs):
        sys.exit(
            f'{args.work_dir} and {args.beside} have the same name; '
            'rename one, so that the pictures can tell them apart'
        )
    runs = {work_dir.name: read_scalars(work_dir) for work_dir in reversed(work_dirs)}
    draw_curves(runs, curves)
    register_all_modules()
    with safe_checkpoints():
        columns = make_columns(work_dirs, args.device)
    count = args.images or (12 if len(columns) == 1 else 6)
    draw_grid(cfg, columns, count, args.score_thr, grid)
    print()
    print_table(dict(reversed(runs.items())))
    for name, path in (('checkpoint', checkpoint), ('curves', curves), ('grid', grid)):
        print(f'{name:<18} {path}')


if __name__ == '__main__':
    main()
