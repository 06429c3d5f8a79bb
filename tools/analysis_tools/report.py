"""Report a training run: pictures and a table.

Reads a work directory of tools/train.py and writes into it

    curves.png      losses, and the metric of each validation, over the iterations; rates of
                    the pseudo boxes, if they are logged
    val_grid.png    validation images with true and predicted boxes, and with score maps if
                    the model has an image-level head
    train_grid.png  training images without boxes, with the pseudo boxes of a
                    LabelGuidedTeacher

--beside compares with other runs on the same data. --most-changed draws the validation images on
which the run gains and loses most against the first of them.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmdet.utils import register_all_modules
from mmengine.config import Config
from prediction_grid import (
    Column,
    draw_grid,
    draw_train_grid,
    has_maps,
    load_model,
    most_changed_images,
    spread_images,
)
from torch import nn

from mmgwap.checkpoint import safe_checkpoints
from mmgwap.models import LabelGuidedTeacher

METRICS = ('coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75', 'pascal_voc/mAP', 'image/mAP')

RATES = {
    'pseudo_precision': 'precision',
    'pseudo_recall': 'recall',
    'pseudo_left_out': 'images left out',
    'pseudo_masked': 'images with a masked class',
}
PER_IMAGE = 'pseudo_boxes_per_image'
BY_CLASS = 'pseudo_boxes/'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dir', type=Path)
    parser.add_argument(
        '--beside', type=Path, nargs='+', default=[], metavar='WORK_DIR', help='runs to compare'
    )
    parser.add_argument(
        '--most-changed',
        action='store_true',
        help='draw the images with the largest change against the first run to compare with: half '
        'of them gain (true boxes found minus wrong boxes), half of them lose',
    )
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
    args = parser.parse_args()
    if args.most_changed and not args.beside:
        parser.error('--most-changed needs --beside')
    return args


def read_scalars(work_dir: Path) -> list[dict]:
    """Read the logged values of all trainings in a work directory, sorted by iteration."""
    rows = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            # A resumed training logs some iterations again; the last values count.
            rows[_kind(row), row['step']] = row
    if not rows:
        sys.exit(f'{work_dir}: no */vis_data/scalars.json; not the work directory of a training')
    return [rows[key] for key in sorted(rows)]


def _kind(row: dict) -> str:
    if any(key.startswith(BY_CLASS) for key in row):
        return 'pseudo'
    return 'train' if 'loss' in row else 'val'


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
    """Draw the curves of the first run beside those of other runs, if any.

    The first panel has the losses of the first run only, the second the metrics. A third and a
    fourth panel show pseudo boxes: the rates, and the numbers by class of the first run.
    """
    panels = [_draw_losses, _draw_metrics]
    if any(PER_IMAGE in row for rows in runs.values() for row in rows):
        panels.append(_draw_rates)
    if any(_kind(row) == 'pseudo' for row in next(iter(runs.values()))):
        panels.append(_draw_classes)
    count = -(-len(panels) // 2)
    figure = Figure(figsize=(11, 4.8 * count), layout='tight')
    grid = figure.subplots(count, 2, squeeze=False)
    for axes, draw in zip(grid.flat, panels):
        axes.grid(alpha=0.3)
        draw(axes, runs)
        axes.set_xlabel('iteration')
    for axes in grid.flat[len(panels) :]:
        axes.axis('off')
    figure.savefig(path, dpi=110)


def _draw_losses(axes: Axes, runs: dict[str, list[dict]]) -> None:
    """Draw the losses; losses of pseudo boxes are dashed, in the colour of their twin."""
    train = [row for row in next(iter(runs.values())) if 'loss' in row]
    keys = list(dict.fromkeys(key for row in train for key in row))
    plain = [key for key in keys if key.startswith('loss')]
    for key in [*plain, *(key for key in keys if key.startswith('pseudo_loss'))]:
        name = key.removeprefix('pseudo_')
        values = np.array([row.get(key, np.nan) for row in train], dtype=float)
        if (values > 0).any():  # losses without pseudo boxes are zero, which has no logarithm
            axes.plot(
                [row['step'] for row in train],
                np.where(values > 0, values, np.nan),
                '-' if key == name else '--',
                label=key,
                color=f'C{plain.index(name) if name in plain else len(plain)}',
                linewidth=2 if key == 'loss' else 1,
            )
    axes.set(ylabel='training loss', yscale='log')
    _add_legend(axes, 3)


def _draw_metrics(axes: Axes, runs: dict[str, list[dict]]) -> None:
    _plot_keys(axes, runs, {key: key for key in METRICS}, marker='o')
    axes.set(ylabel='validation', ylim=(0, 1))
    _add_legend(axes, 3 if len(runs) == 1 else 2)


def _draw_rates(axes: Axes, runs: dict[str, list[dict]]) -> None:
    """Draw rates in [0, 1], and the number of pseudo boxes per image on an axis to the right."""
    _plot_keys(axes, runs, RATES)
    axes.set(ylabel='pseudo boxes: rates', ylim=(0, 1.02))
    right = axes.twinx()
    _plot_keys(right, runs, {PER_IMAGE: 'boxes per image (right)'}, color='black', linewidth=2)
    right.set(ylabel='pseudo boxes per image', ylim=(0, None))
    _add_legend(axes, 3 if len(runs) == 1 else 2, right)


def _draw_classes(axes: Axes, runs: dict[str, list[dict]]) -> None:
    """Draw the pseudo boxes per image of each class, at most of the 10 rarest of many classes."""
    rows = [row for row in next(iter(runs.values())) if _kind(row) == 'pseudo']
    keys = [key for key in rows[-1] if key.startswith(BY_CLASS)]
    title = 'pseudo boxes per image, by class'
    if len(keys) > 20:
        title += f' (10 lowest of {len(keys)})'
        keys = sorted(keys, key=rows[-1].get)[:10]
    steps = [row['step'] for row in rows]
    palette = colormaps['tab10' if len(keys) <= 10 else 'tab20']
    for number, key in enumerate(keys):
        values = [row.get(key, np.nan) for row in rows]
        axes.plot(steps, values, label=key.removeprefix(BY_CLASS), color=palette(number))
    axes.set(ylabel=title, ylim=(0, None))
    _add_legend(axes, 5)


def _plot_keys(axes: Axes, runs: dict[str, list[dict]], keys: dict[str, str], **style) -> None:
    """Plot logged values with labels; the lines of the other runs are dotted or dashed."""
    for (name, rows), line in zip(runs.items(), itertools.cycle(('-', ':', '--', '-.'))):
        for number, (key, label) in enumerate(keys.items()):
            points = [(row['step'], row[key]) for row in rows if key in row]
            if points:
                label = label if len(runs) == 1 else f'{name}: {label}'
                axes.plot(*zip(*points), line, label=label, **{'color': f'C{number}', **style})


def _add_legend(axes: Axes, columns: int, *others: Axes) -> None:
    """Add a legend below the axes; other axes at the same place share it."""
    entries = [each.get_legend_handles_labels() for each in (axes, *others)]
    handles, labels = (sum(parts, []) for parts in zip(*entries))
    if handles:
        below = dict(loc='upper center', bbox_to_anchor=(0.5, -0.14))
        axes.legend(handles, labels, ncol=columns, frameon=False, fontsize=8, **below)


def _has_pseudo_boxes(model: nn.Module) -> bool:
    return isinstance(model, LabelGuidedTeacher) and model.pseudo_weight > 0


def load_models(work_dirs: list[Path], device: str) -> dict[str, nn.Module]:
    with safe_checkpoints():
        return {work_dir.name: load_model(*find_run(work_dir), device) for work_dir in work_dirs}


def make_columns(models: dict[str, nn.Module]) -> list[Column]:
    """Return a column of boxes per run, and a column of score maps of the last run."""
    columns = [Column(name, model) for name, model in models.items()]
    if has_maps(columns[-1].model):
        columns.append(Column(f'{columns[-1].title}: score maps', columns[-1].model, maps=True))
    return columns


def choose_images(
    cfg: Config, models: dict[str, nn.Module], count: int, threshold: float, most_changed: bool
) -> dict[int, str]:
    """Return the validation images to draw: a note for each, by its index."""
    if not most_changed:
        return spread_images(cfg, count)
    before, *_, after = models.values()
    images = most_changed_images(cfg, before, after, count, threshold)
    if not images:
        sys.exit(f'--most-changed: no image gains or loses boxes with scores from {threshold}')
    return images


def print_table(runs: dict[str, list[dict]]) -> None:
    """Print length, time and last metrics of each run, a column each."""
    columns = [_summarize(rows) for rows in runs.values()]
    lines = [['', *runs]] if len(runs) > 1 else []
    for key in dict.fromkeys(key for column in columns for key in column):
        lines.append([key, *(column.get(key, '') for column in columns)])
    for head, *cells in lines:
        cells = ''.join(f'{cell:<28}' for cell in cells)
        print(f'{head:<23} {cells}'.rstrip())


def _summarize(rows: list[dict]) -> dict[str, str]:
    train = [row for row in rows if 'loss' in row]
    steps = max(row['step'] for row in train)
    minutes = sum(row['time'] for row in train) / len(train) * steps / 60
    return {
        'iterations': str(steps),
        'time in training': f'{minutes:.1f} min',
        **_last(rows, METRICS),
        **_last(rows, (PER_IMAGE, *RATES)),
    }


def _last(rows: list[dict], keys: Sequence[str]) -> dict[str, str]:
    """Return the values of the last row that has some of the keys."""
    row = next((row for row in reversed(rows) if any(key in row for key in keys)), {})
    return {key: f'{row[key]:.3f}' for key in keys if key in row}


def main() -> None:
    args = parse_args()
    work_dirs = [*args.beside, args.work_dir]
    cfg, checkpoint = find_run(args.work_dir)
    if len({work_dir.name for work_dir in work_dirs}) < len(work_dirs):
        sys.exit(f'two of {", ".join(map(str, work_dirs))} have the same folder name; rename one')
    curves, grid, train_grid = (
        args.work_dir / f'{name}.png' for name in ('curves', 'val_grid', 'train_grid')
    )
    runs = {work_dir.name: read_scalars(work_dir) for work_dir in work_dirs}
    draw_curves(dict(reversed(runs.items())), curves)
    register_all_modules()
    models = load_models(work_dirs, args.device)
    columns = make_columns(models)
    count = args.images or (12 if len(columns) == 1 else 6)
    images = choose_images(cfg, models, count, args.score_thr, args.most_changed)
    draw_grid(cfg, columns, images, args.score_thr, grid)
    paths = dict(checkpoint=checkpoint, curves=curves, grid=grid)
    teachers = {name: model for name, model in models.items() if _has_pseudo_boxes(model)}
    if args.work_dir.name in teachers:
        if draw_train_grid(cfg, teachers, args.images or 6, train_grid):
            paths['train grid'] = train_grid
    print()
    print_table(runs)
    for name, path in paths.items():
        print(f'{name:<23} {path}')


if __name__ == '__main__':
    main()
