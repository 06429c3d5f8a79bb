"""Train with few boxes, with and without image labels, and compare.

For each share of boxes and each seed, a detector is trained on the boxes (first stage). It is
then trained further in several ways (second stage). Except on cards, all of them share the model
class, the images, the batches (4 images with boxes, 4 with labels only), the augmentations and the
number of iterations:

    boxes only              no losses of the images with labels only
    label-blind teacher     pseudo boxes, found without the labels
    labels, GWAP branch     image-level losses on all images
    label-guided teacher    pseudo boxes, found with the labels
    both                    pseudo boxes and image-level losses
    all boxes               boxes on all 8 images; both stages; the upper bound

Writes

    OUT/DATA.jsonl  settings and results of each training
    OUT/DATA.md     table: mean and range over the seeds
    OUT/DATA.png    plot of the first metric

Table and plot show all trainings of the jsonl file with these numbers of iterations. Trainings
in the file are not repeated: an interrupted comparison continues where it stopped, also in another
clone. Remove their lines, and their folders in WORK_DIR, to start again.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple, Optional

from results import collect, describe_runs, draw, write_table
from training import Experiment, Records, Run, make_runs, train

# Config and options of the second stage, by name.
Arms = dict[str, tuple[str, ...]]


def teacher_arms(teacher: str, gwap_teacher: str) -> Arms:
    """Return the arms of a teacher's config, and of a config with teacher and GWAP branch."""
    return {
        'boxes only': (teacher, 'model.pseudo_weight=0'),
        'label-blind teacher': (teacher, 'model.guided=False'),
        'labels, GWAP branch': (gwap_teacher, 'model.pseudo_weight=0'),
        'label-guided teacher': (teacher,),
        'both': (gwap_teacher,),
        'all boxes': (
            teacher,
            'train_dataloader.dataset.percent=100',
            'train_dataloader.batch_sampler=None',
        ),
    }


CARDS_ARMS = {
    'boxes only': ('gwap/rfcn_r18_cards-p20-boxes-only.py',),
    'boxes + labels, GWAP': ('gwap/rfcn_r18_gwap_cards-p20.py',),
    'boxes + labels, GAP': ('gwap/rfcn_r18_gap_cards-p20.py',),
    'all boxes': ('gwap/rfcn_r18_cards-all-boxes.py',),
}


class Comparison(NamedTuple):
    """The trainings on a data set.

    Attributes:
        few: config of the first stage on some of the boxes.
        whole: config of the first stage on all boxes.
        arms: config and options of the second stage, by name.
        percents: default percentages of the images with boxes.
        iterations: default numbers of iterations of the two stages.
        metrics: columns of the table; the first is drawn.
    """

    few: str
    whole: str
    arms: Arms
    percents: list[float]
    iterations: tuple[int, int] = (1000, 1500)
    metrics: tuple[str, ...] = (
        'coco/bbox_mAP',
        'coco/bbox_mAP_50',
        'image/mAP',
        'pseudo_precision',
        'pseudo_recall',
    )


def photographs(name: str, percents: list[float]) -> Comparison:
    """Return the comparison on photographs in configs/photographs; they start from ImageNet."""
    path = f'photographs/rfcn_efficientnet-lite0{{}}_{name}{{}}.py'
    few = f'-p{percents[0]:02d}'
    return Comparison(
        path.format('', f'{few}-boxes-only'),
        path.format('', ''),
        teacher_arms(path.format('_teacher', few), path.format('_gwap-teacher', few)),
        percents,
        iterations=(300, 600),
    )


DATA = dict(
    digits=Comparison(
        'gwap/rfcn_r18_digits-p10-boxes-only.py',
        'gwap/rfcn_r18_digits-all-boxes.py',
        teacher_arms(
            'teacher/rfcn_r18_teacher_digits-p10.py', 'teacher/rfcn_r18_gwap-teacher_digits-p10.py'
        ),
        [10, 2],
    ),
    highway=photographs('highway', [5, 10]),
    aquarium=photographs('aquarium', [10]),
    cards=Comparison(
        'gwap/rfcn_r18_cards-p20-boxes-only.py',
        'gwap/rfcn_r18_cards-all-boxes.py',
        CARDS_ARMS,
        [20],
        metrics=('pascal_voc/mAP', 'image/mAP'),
    ),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='tools/compare',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--data', choices=DATA, default='digits', help='default: %(default)s')
    parser.add_argument(
        '--percents',
        type=float,
        nargs='+',
        help='percentages of the images with boxes, in the order of the trainings '
        '(default: 10 2 for digits, 5 10 for highway, 10 for aquarium, 20 for cards)',
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='default: 0 1 2')
    parser.add_argument(
        '--arms', nargs='+', metavar='NAME', help="ways to train, such as 'both' (default: all)"
    )
    parser.add_argument(
        '--iterations',
        type=int,
        nargs=2,
        metavar=('FIRST', 'SECOND'),
        help='iterations of the two stages (default: 1000 1500, or 300 600 on photographs)',
    )
    parser.add_argument(
        '--jobs', type=int, default=1, help='simultaneous trainings (default: %(default)s)'
    )
    parser.add_argument(
        '--table-only', action='store_true', help='train nothing; write table and plot'
    )
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/compare'), help='default: %(default)s'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('docs/compare'), help='default: %(default)s'
    )
    args = parser.parse_args()
    known = DATA[args.data].arms
    unknown = [name for name in args.arms or () if name not in known]
    if unknown:
        parser.error(f'--arms: no {unknown[0]!r} on {args.data}; choose from {", ".join(known)}')
    return args


def make_experiments(
    comparison: Comparison, percents: list[float], arms: Optional[list[str]] = None
) -> list[Experiment]:
    """Return the arms, or some of them, at each percentage of boxes, and with all boxes."""
    chosen = {name: arm for name, arm in comparison.arms.items() if name in (arms or [name])}
    experiments = [
        Experiment(name, comparison.few, config, percent, tuple(options))
        for percent in percents
        for name, (config, *options) in chosen.items()
        if name != 'all boxes'
    ]
    if 'all boxes' in chosen:
        config, *options = chosen['all boxes']
        whole = Experiment('all boxes', comparison.whole, config, options=tuple(options))
        experiments.append(whole)
    return experiments


def order_runs(runs: list[Run], percents: list[float]) -> list[Run]:
    """Sort runs by the order of their percentages; all boxes count as the first."""
    return sorted(runs, key=lambda run: percents.index(run.experiment.percent or percents[0]))


def write_results(comparison: Comparison, records: Records, iterations: tuple, out: Path) -> None:
    """Write table and plot of all records of a comparison with these numbers of iterations."""
    results = records.values()
    percents = sorted({result['percent'] for result in results} - {None})
    seeds = sorted({result['seed'] for result in results})
    runs = make_runs(make_experiments(comparison, percents), seeds, iterations, Path())
    runs = [run for run in runs if run in records]
    if not runs:
        sys.exit(f'{records.path}: no results of {iterations[0]} and {iterations[1]} iterations')
    stages = {stage for run in runs for stage in (run, run.after) if stage in records}
    first, second = iterations
    title = f'Two stages, of {first:,} and {second:,} iterations; '
    title += describe_runs([records[stage] for stage in stages])
    found = collect((run.experiment, records[run]) for run in runs)
    write_table(found, comparison.metrics, out.with_suffix('.md'), title)
    draw(found, comparison.metrics[0], out.with_suffix('.png'))


def main() -> None:
    args = parse_args()
    comparison = DATA[args.data]
    iterations = tuple(args.iterations or comparison.iterations)
    percents = args.percents or comparison.percents
    args.out.mkdir(parents=True, exist_ok=True)
    out = args.out / args.data
    records = Records(out.with_suffix('.jsonl'))
    if not args.table_only:
        experiments = make_experiments(comparison, percents, args.arms)
        # The trainings run in the folder of the repository.
        folder = args.work_dir.resolve() / args.data
        runs = order_runs(make_runs(experiments, args.seeds, iterations, folder), percents)
        train(records.missing(runs), args.jobs, records.add)
    write_results(comparison, records, iterations, out)
    table, plot = out.with_suffix('.md'), out.with_suffix('.png')
    print(f'\n{table.read_text()}\n{table}\n{plot}')


if __name__ == '__main__':
    main()
