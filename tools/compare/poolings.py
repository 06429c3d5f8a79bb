"""Train image classifiers with different poolings, and compare their maps.

The images show one digit in clutter, or street objects of one class, and the supervision is the
class label. Global average, max and log-sum-exp pooling and both forms of GWAP share the backbone,
the data and the schedule. Writes

    OUT/poolings-DATA.md     table: mean and range over the seeds, in percent
    OUT/poolings-DATA.png    maps of the true class, side by side, of the first seed

Finished trainings are kept: an interrupted comparison continues where it stopped. Remove its
folder in WORK_DIR to start again.
"""

import argparse
import json
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from mmdet.apis import init_detector
from mmdet.registry import DATASETS, METRICS
from mmdet.utils import register_all_modules
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from results import Results, collect, describe_runs, format_values, write_markdown
from training import REPO, Experiment, Run, train

from mmgwap.checkpoint import safe_checkpoints
from mmgwap.localization import boxes_from_map
from mmgwap.structures import image_labels, maps_to_image
from mmgwap.visualization import Tile, save_sheet

POOLINGS = {
    'gap': 'GAP',
    'gmp': 'GMP',
    'lse': 'LSE',
    'ca-gwap': 'GWAP, class-agnostic',
    'cs-gwap': 'GWAP, class-specific',
}
CONFIGS = dict(
    digits='wsol/r18_{}_digits-single.py', highway='wsol/efficientnet-lite0_{}_highway-single.py'
)
COLUMNS = {
    'wsol/top1_error': 'top-1 accuracy',
    'wsol/gt_known': 'GT-known, 20 %',
    'tuned/gt_known': 'GT-known, threshold chosen',
    'wsol/max_box_acc_v2': 'MaxBoxAccV2',
    'wsol/px_ap': 'PxAP',
    'tuned/threshold': 'chosen threshold',
}
TUNING_IMAGES = 500  # training images that the threshold is chosen on


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='tools/compare/poolings.py',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--data', choices=CONFIGS, default='digits', help='default: %(default)s')
    parser.add_argument(
        '--poolings', nargs='+', choices=POOLINGS, default=list(POOLINGS), help='default: all'
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='default: 0 1 2')
    parser.add_argument('--iterations', type=int, help='default: as in the configs')
    parser.add_argument(
        '--jobs', type=int, default=1, help='simultaneous trainings (default: %(default)s)'
    )
    parser.add_argument(
        '--images', type=int, default=4, help='images in the picture (default: %(default)s)'
    )
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/compare'), help='default: %(default)s'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('docs/compare'), help='default: %(default)s'
    )
    return parser.parse_args()


def configs_of(data: str, poolings: list[str]) -> dict[str, str]:
    """Return the config of each pooling, a path below configs/."""
    return {name: CONFIGS[data].format(name) for name in poolings}


def make_runs(
    configs: dict[str, str], seeds: list[int], folder: Path, iterations: Optional[int] = None
) -> list[Run]:
    """Return a run for each pooling and seed, in one stage; by default as long as its config.

    Args:
        configs (dict): config of each pooling, a path below configs/.
        seeds (list[int]): seeds.
        folder (Path): folder of the work directories.
        iterations (int): length of the trainings.
    """
    return [
        Run(
            Experiment(POOLINGS[name], config, config),
            seed,
            config,
            iterations or load_config(config).train_cfg.max_iters,
            folder / f'{name}-seed{seed}',
        )
        for seed in seeds
        for name, config in configs.items()
    ]


def load_config(path: str) -> Config:
    return Config.fromfile(REPO / 'configs' / path)


def load_model(run: Run) -> torch.nn.Module:
    last = (run.folder / 'last_checkpoint').read_text().strip()
    with safe_checkpoints():
        return init_detector(load_config(run.config), last, device='cpu', cfg_options={})


def add_tuned_result(run: Run) -> None:
    """Add GT-known at the tuned threshold to the result of a run."""
    result = run.result()
    if 'tuned/threshold' not in result['values']:
        found = tuned_gt_known(load_model(run), load_config(run.config))
        result['values'].update({f'tuned/{name}': value for name, value in found.items()})
        (run.folder / 'result.json').write_text(json.dumps(result))


def tuned_gt_known(model: torch.nn.Module, cfg: Config) -> dict[str, float]:
    """Choose the map threshold on training images and measure GT-known with it.

    Args:
        model (nn.Module): classifier in eval mode that returns maps.
        cfg (Config): config with the training and the validation data set.

    Returns:
        dict: ``threshold``, the best threshold for the largest contour on the first training
        images; ``gt_known``, in percent, on the validation set with this threshold.
    """
    train_set, val_set = (cfg[f'{name}_dataloader'].dataset for name in ('train', 'val'))
    train_set = ConfigDict(
        train_set, pipeline=val_set.pipeline, test_mode=True, indices=TUNING_IMAGES
    )
    threshold = evaluate(model, train_set)['max_box_acc_threshold']
    found = evaluate(model, val_set, box_threshold=threshold)
    return dict(threshold=threshold, gt_known=found['gt_known'])


def evaluate(model: torch.nn.Module, dataset: ConfigDict, **options) -> dict[str, float]:
    """Compute ``WSOLMetric``, with options, of a model on a data set."""
    dataset = DATASETS.build(dataset)
    metric = METRICS.build(
        dict(type='mmgwap.WSOLMetric', metadata_root=dataset.metadata_root, **options)
    )
    metric.dataset_meta = dataset.metainfo
    for i in range(len(dataset)):
        data = pseudo_collate([dataset[i]])
        with torch.no_grad():
            (sample,) = model.test_step(data)
        metric.process(data, [sample.to_dict()])
    return {name.split('/')[-1]: value for name, value in metric.evaluate(len(dataset)).items()}


def write_table(results: Results, path: Path, title: str) -> None:
    """Write a Markdown table with a row for each pooling."""
    # Without masks there is no PxAP.
    names = [name for name in COLUMNS if all(name in values for values in results.values())]
    rows = []
    for experiment, values in results.items():
        cells = [
            format_values(
                100 - values[name] if name.endswith('error') else values[name],
                2 if name.endswith('threshold') else 1,
            )
            for name in names
        ]
        rows.append([experiment.name, *cells, f'{values["seconds"].mean() / 60:.1f}'])
    write_markdown(['pooling', *(COLUMNS[name] for name in names), 'minutes'], rows, path, title)


def draw(runs: list[Run], count: int, path: Path) -> None:
    """Draw validation images, one per row, with the map of each run in a column."""
    dataset = DATASETS.build(load_config(runs[0].config).val_dataloader.dataset)
    models = [load_model(run) for run in runs]
    tiles = []
    for i in np.linspace(0, len(dataset) - 1, count).astype(int):
        data = pseudo_collate([dataset[int(i)]])
        image = data['inputs'][0].permute(1, 2, 0).numpy()[..., ::-1]
        label = int(image_labels(data['data_samples'][0])[0])
        tiles.append(Tile(image, f'true: {dataset.metainfo["classes"][label]}'))
        for model, run in zip(models, runs):
            tiles.append(_map_tile(model, data, image, label, run.experiment.name))
    save_sheet(tiles, path, len(runs) + 1, 'maps of the true class; green: boxes at 20 %')


def _map_tile(model: torch.nn.Module, data: dict, image: np.ndarray, label: int, name: str) -> Tile:
    with torch.no_grad():
        (sample,) = model.test_step(data)
    maps = maps_to_image(sample, sample.pred_image_maps[label][None], rescale=False)
    score_map, score = maps[0].numpy(), float(sample.pred_image_scores[label])
    return Tile(image, f'{name} {score:.2f}', score_map, boxes_from_map(score_map))


def main() -> None:
    args = parse_args()
    # The trainings run in the folder of the repository.
    folder = args.work_dir.resolve() / f'poolings-{args.data}'
    configs = configs_of(args.data, args.poolings)
    runs = make_runs(configs, args.seeds, folder, args.iterations)
    train(runs, args.jobs)
    register_all_modules()
    for run in runs:
        add_tuned_result(run)
    args.out.mkdir(parents=True, exist_ok=True)
    table, picture = (args.out / f'poolings-{args.data}.{suffix}' for suffix in ('md', 'png'))
    results = [(run.experiment, run.result()) for run in runs]
    title = f'{runs[0].iterations:,} iterations; '
    title += describe_runs([result for _, result in results])
    write_table(collect(results), table, title)
    draw(runs[: len(args.poolings)], args.images, picture)
    print(f'\n{table.read_text()}\n{table}\n{picture}')


if __name__ == '__main__':
    main()
