"""Report a training run: two pictures and a table.

Reads a work directory of tools/train.py and writes into it

    curves.png     losses, and the metric of each validation, over the iterations
    val_grid.png   validation images with true and predicted boxes, and with score maps if
                   the model has an image-level head

--beside compares with another run on the same data.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmdet.utils import register_all_modules
from mmengine.config import Config
from prediction_grid import Column, draw_grid, load_model

from mmgwap.checkpoint import safe_checkpoints

METRICS = ('coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75', 'pascal_voc/mAP', 'image/mAP')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dir', type=Path)
    parser.add_argument('--beside', type=Path, metavar='WORK_DIR', help='run to compare with')
    parser.add_argument(
        '--images', type=int, help='images in the grid (default: 12, or 6 with several columns)'
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.5,
        help='minimum score of a drawn box (default: %(default)s)',
    )
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    return parser.parse_args()


def read_scalars(work_dir: Path) -> list[dict]:
    """Read the logged values of all trainings in a work directory, sorted by iteration."""
    rows = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            # A resumed training logs some iterations again; the last values count.
            kind = 'train' if 'loss' in row else 'val'
            rows[kind, row['step']] = row
    if not rows:
        sys.exit(f'{work_dir}: no */vis_data/scalars.json; not the work directory of a training')
    return [rows[key] for key in sorted(rows)]


def find_run(work_dir: Path) -> tuple[Config, Path]:
    """Return the config and the path of the last checkpoint of a work directory."""
    configs = sorted(work_dir.glob('*.py'))
    if len(configs) != 1:
        sys.exit(f'{work_dir}: found {len(configs)} configs (*.py), expected 1 in a work directory')
    pointer = work_dir / 'last_checkpoint'
    if not pointer.is_file():
        sys.exit(f'{pointer}: missing; the training has not saved a checkpoint yet')
    # The folder may have been moved since.
    return Config.fromfile(configs[0]), work_dir / Path(pointer.read_text().strip()).name


def draw_curves(runs: dict[str, list[dict]], path: Path) -> None:
    """Draw the losses of the first run and the metrics of all (at most two) runs."""
    figure = Figure(figsize=(11, 4.6), layout='tight')
    left, right = figure.subplots(1, 2)
    train = [row for row in next(iter(runs.values())) if 'loss' in row]
    for key in (key for key in train[0] if key.startswith('loss')):
        left.plot(
            [row['step'] for row in train],
            [row.get(key, np.nan) for row in train],
            label=key,
            linewidth=2 if key == 'loss' else 1,
        )
    for (name, rows), style in zip(runs.items(), ('-', ':')):
        for number, key in enumerate(METRICS):
            points = [(row['step'], row[key]) for row in rows if key in row]
            if points:
                label = key if len(runs) == 1 else f'{name}: {key}'
                right.plot(*zip(*points), style, marker='o', label=label, color=f'C{number}')
    left.set(xlabel='iteration', ylabel='training loss', yscale='log')
    right.set(xlabel='iteration', ylabel='validation', ylim=(0, 1))
    _add_legend(left, 3)
    _add_legend(right, 3 if len(runs) == 1 else 2)
    figure.savefig(path, dpi=110)


def _add_legend(axes: Axes, columns: int) -> None:
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        below = dict(loc='upper center', bbox_to_anchor=(0.5, -0.14))
        axes.legend(ncol=columns, frameon=False, fontsize=8, **below)


def make_columns(work_dirs: list[Path], device: str) -> Iterator[Column]:
    """Yield a column of boxes per run, and a column of score maps of the last run."""
    for work_dir in work_dirs:
        model = load_model(*find_run(work_dir), device)
        yield Column(work_dir.name, model)
    if hasattr(model, 'cls_head'):
        yield Column(f'{work_dir.name}: score maps', model, maps=True)


def print_table(runs: dict[str, list[dict]]) -> None:
    """Print length, time and last metrics of each run, a column each."""
    columns = [_summarize(rows) for rows in runs.values()]
    lines = [['', *runs]] if len(runs) > 1 else []
    for key in dict.fromkeys(key for column in columns for key in column):
        lines.append([key, *(column.get(key, '') for column in columns)])
    for head, *cells in lines:
        cells = ''.join(f'{cell:<28}' for cell in cells)
        print(f'{head:<18} {cells}'.rstrip())


def _summarize(rows: list[dict]) -> dict[str, str]:
    train = [row for row in rows if 'loss' in row]
    steps = max(row['step'] for row in train)
    minutes = sum(row['time'] for row in train) / len(train) * steps / 60
    last = next((row for row in reversed(rows) if any(key in row for key in METRICS)), {})
    return {
        'iterations': str(steps),
        'time in training': f'{minutes:.1f} min',
        **{key: f'{last[key]:.3f}' for key in METRICS if key in last},
    }


def main() -> None:
    args = parse_args()
    work_dirs = [args.beside, args.work_dir] if args.beside else [args.work_dir]
    cfg, checkpoint = find_run(args.work_dir)
    if len({work_dir.name for work_dir in work_dirs}) < len(work_dirs):
        sys.exit(f'{args.work_dir} and {args.beside} have the same folder name; rename one')
    curves, grid = (args.work_dir / name for name in ('curves.png', 'val_grid.png'))
    runs = {work_dir.name: read_scalars(work_dir) for work_dir in work_dirs}
    draw_curves(dict(reversed(runs.items())), curves)
    register_all_modules()
    with safe_checkpoints():
        columns = list(make_columns(work_dirs, args.device))
    count = args.images or (12 if len(columns) == 1 else 6)
    draw_grid(cfg, columns, count, args.score_thr, grid)
    print()
    print_table(runs)
    for name, path in (('checkpoint', checkpoint), ('curves', curves), ('grid', grid)):
        print(f'{name:<18} {path}')


if __name__ == '__main__':
    main()
