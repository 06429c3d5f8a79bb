"""Train with few boxes, with and without image labels, and compare.

For each share of boxes and each seed, a detector is trained on the boxes (first stage). It is
then trained further in three ways (second stage): on boxes only, on boxes and labels with
class-specific GWAP, and on boxes and labels with global average pooling (GAP). A detector
trained on all boxes in both stages is the upper bound. The number of iterations, and of images
with boxes per step, is the same everywhere. Writes

    OUT/DATA.md     table: mean and range over the seeds
    OUT/DATA.png    plot of the first metric

Finished trainings are kept: an interrupted comparison continues where it stopped. Remove its
folder in WORK_DIR to start again.
"""

import argparse
from pathlib import Path

from results import collect, describe_runs, draw, write_table
from training import Experiment, make_runs, train

DATA = dict(
    digits=dict(
        share=10, percents=[2, 10], metrics=['coco/bbox_mAP', 'coco/bbox_mAP_50', 'image/mAP']
    ),
    cards=dict(share=20, percents=[20], metrics=['pascal_voc/mAP', 'image/mAP']),
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
        help='percentages of the images with boxes (default: 2 10 for digits, 20 for cards)',
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='default: 0 1 2')
    parser.add_argument(
        '--iterations',
        type=int,
        nargs=2,
        default=[1000, 2000],
        metavar=('FIRST', 'SECOND'),
        help='iterations of the two stages (default: 1000 2000)',
    )
    parser.add_argument(
        '--jobs', type=int, default=1, help='simultaneous trainings (default: %(default)s)'
    )
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/compare'), help='default: %(default)s'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('docs/compare'), help='default: %(default)s'
    )
    return parser.parse_args()


def make_experiments(data: str, share: int, percents: list[float]) -> list[Experiment]:
    """Return the experiments on a data set.

    Args:
        data (str): name of the data set in the names of the configs.
        share (int): percentage of boxes in the names of the configs.
        percents (list[float]): percentages of boxes to train with.
    """
    first = f'gwap/rfcn_r18_{data}-p{share}-boxes-only.py'
    seconds = {
        'boxes only': first,
        'boxes + labels, GWAP': f'gwap/rfcn_r18_gwap_{data}-p{share}.py',
        'boxes + labels, GAP': f'gwap/rfcn_r18_gap_{data}-p{share}.py',
    }
    experiments = [
        Experiment(name, first, second, percent)
        for percent in percents
        for name, second in seconds.items()
    ]
    all_boxes = f'gwap/rfcn_r18_{data}-all-boxes.py'
    return [*experiments, Experiment('all boxes', all_boxes, all_boxes)]


def main() -> None:
    args = parse_args()
    data = DATA[args.data]
    experiments = make_experiments(args.data, data['share'], args.percents or data['percents'])
    # The trainings run in the folder of the repository.
    folder = args.work_dir.resolve() / args.data
    firsts, seconds = make_runs(experiments, args.seeds, folder)
    for runs, iterations in zip((firsts, seconds), args.iterations):
        train(runs, iterations, args.jobs)
    args.out.mkdir(parents=True, exist_ok=True)
    table, plot = (args.out / f'{args.data}.{suffix}' for suffix in ('md', 'png'))
    first, second = args.iterations
    title = f'Two stages, of {first:,} and {second:,} iterations; ' + describe_runs(
        firsts + seconds, args.seeds, args.jobs
    )
    results = collect(seconds)
    write_table(results, data['metrics'], table, title)
    draw(results, data['metrics'][0], plot)
    print(f'\n{table.read_text()}\n{table}\n{plot}')


if __name__ == '__main__':
    main()
