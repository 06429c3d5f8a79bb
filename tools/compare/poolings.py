"""Train image classifiers with different poolings, and compare what they show.

Digits in clutter, one an image, from class labels alone: global average, max and
log-sum-exp pooling, and GWAP in both forms, with the same backbone, data and
schedule.  Writes

    OUT/poolings.md     a table: mean and range over the seeds, in percent
    OUT/poolings.png    maps of the true class, side by side, of the first seed

What is trained already is not trained again, so a run that was interrupted
goes on where it was; remove its folder in WORK_DIR to begin anew.
"""

import argparse
import json
from datetime import date
from pathlib import Path

import numpy as np
import torch
from mmdet.apis import init_detector
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from report import collect, device
from runs import REPO, Arm, Run, train
from thresholds import tuned_gt_known

from mmgwap.checkpoint import safe_checkpoints
from mmgwap.localization import boxes_from_map
from mmgwap.structures import image_labels, maps_to_image
from mmgwap.visualization import Tile, save_sheet

POOLINGS = dict(
    gap='GAP',
    gmp='GMP',
    lse='LSE',
    **{'ca-gwap': 'GWAP, class-agnostic', 'cs-gwap': 'GWAP, class-specific'},
)
METRICS = {
    'wsol/top1_error': 'top-1 accuracy',
    'wsol/gt_known': 'GT-known, 20 %',
    'tuned/gt_known': 'GT-known, threshold chosen',
    'wsol/max_box_acc_v2': 'MaxBoxAccV2',
    'wsol/px_ap': 'PxAP',
    'tuned/threshold': 'that threshold',
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='tools/compare/poolings.py',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--poolings', nargs='+', choices=POOLINGS, default=list(POOLINGS), help='default: all'
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='default: 0 1 2')
    parser.add_argument('--iterations', type=int, help="default: the configs'")
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        help='runs at a time, which share the cores (default: %(default)s)',
    )
    parser.add_argument(
        '--images', type=int, default=4, help='in the picture (default: %(default)s)'
    )
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/compare'), help='default: %(default)s'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('docs/compare'), help='default: %(default)s'
    )
    return parser.parse_args()


def config_of(pooling: str) -> str:
    return f'wsol/r18_{pooling}_digits-single.py'


def make_runs(poolings: list[str], seeds: list[int], folder: Path) -> list[Run]:
    return [
        Run(
            Arm(POOLINGS[name], config_of(name), config_of(name)),
            seed,
            config_of(name),
            folder / f'{name}-seed{seed}',
        )
        for seed in seeds
        for name in poolings
    ]


def tune(run: Run) -> None:
    """Add to a run's result what thresholds chosen for it come to."""
    result = run.result()
    if 'tuned/threshold' in result:
        return
    found = tuned_gt_known(load(run), config(run))
    result.update({f'tuned/{name}': value for name, value in found.items()})
    (run.folder / 'result.json').write_text(json.dumps(result))


def write_table(found: dict, path: Path, title: str) -> None:
    """A line for each pooling."""
    heads = ['pooling', *METRICS.values(), 'minutes']
    lines = [title, '', f'| {" | ".join(heads)} |', '|---' * len(heads) + '|']
    for arm, values in found.items():
        cells = [_cell(name, values[name]) for name in METRICS]
        minutes = f'{values["seconds"].mean() / 60:.1f}'
        lines.append(f'| {" | ".join([arm.name, *cells, minutes])} |')
    path.write_text('\n'.join(lines) + '\n')


def _cell(name: str, values: np.ndarray) -> str:
    """Mean, and the range over the seeds."""
    if name.endswith('error'):
        values = 100 - values
    form = '{:.2f}' if name.endswith('threshold') else '{:.1f}'
    if len(values) == 1:
        return form.format(values[0])
    return f'{form} ({form} to {form})'.format(values.mean(), values.min(), values.max())


def draw(runs: list[Run], count: int, path: Path) -> None:
    """Draw images of the validation set, a line each, a column each run."""
    dataset = DATASETS.build(config(runs[0]).val_dataloader.dataset)
    models = [load(run) for run in runs]
    tiles = []
    for i in np.linspace(0, len(dataset) - 1, count).astype(int):
        data = pseudo_collate([dataset[int(i)]])
        image = data['inputs'][0].permute(1, 2, 0).numpy()[..., ::-1]
        label = int(image_labels(data['data_samples'][0])[0])
        tiles.append(Tile(image, f'true: {label}'))
        tiles += [
            _tile(model, data, image, label, run.arm.name) for model, run in zip(models, runs)
        ]
    save_sheet(tiles, path, len(runs) + 1, 'maps of the true class; green: their boxes at 20 %')


def config(run: Run) -> Config:
    return Config.fromfile(REPO / 'configs' / run.config)


def load(run: Run) -> torch.nn.Module:
    last = (run.folder / 'last_checkpoint').read_text().strip()
    with safe_checkpoints():
        return init_detector(config(run), last, device='cpu', cfg_options={})


def _tile(model: torch.nn.Module, data: dict, image: np.ndarray, label: int, name: str) -> Tile:
    with torch.no_grad():
        (sample,) = model.test_step(data)
    (score_map,) = maps_to_image(sample, sample.pred_image_maps[label][None], rescale=False).numpy()
    score = float(sample.pred_image_scores[label])
    return Tile(image, f'{name} {score:.2f}', score_map, boxes_from_map(score_map))


def main() -> None:
    args = parse_args()
    # Training runs in the repository's folder, wherever this was called.
    folder = args.work_dir.resolve() / 'poolings'
    iterations = (
        args.iterations or Config.fromfile(REPO / 'configs' / config_of('gap')).train_cfg.max_iters
    )
    runs = make_runs(args.poolings, args.seeds, folder)
    train(runs, iterations, args.jobs)
    register_all_modules()
    for run in runs:
        tune(run)
    args.out.mkdir(parents=True, exist_ok=True)
    table, picture = (args.out / f'poolings.{kind}' for kind in ('md', 'png'))
    hours = sum(run.result()['seconds'] for run in runs) / 3600
    write_table(
        collect(runs),
        table,
        (
            f'{iterations:,} iterations; seeds {", ".join(map(str, args.seeds))}; '
            f'{hours:.1f} hours of training, {args.jobs} at a time, on '
            f'{device()}; {date.today()}, torch {torch.__version__}.'
        ),
    )
    draw(runs[: len(args.poolings)], args.images, picture)
    print(f'\n{table.read_text()}\n{table}\n{picture}')


if __name__ == '__main__':
    main()
