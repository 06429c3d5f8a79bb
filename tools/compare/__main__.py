"""Train with few boxes, with and without image labels, and compare.

For each share of boxes and each seed a detector is trained on the boxes, and
then trained on: on boxes only, on boxes + labels with class-specific GWAP, on
the same with plain averaging (GAP).  Beside these, all boxes in both stages.
All have the same number of iterations and of boxed images a step.  Writes

    OUT/DATA.md     a table: mean and range over the seeds
    OUT/DATA.png    a plot of it

What is trained already is not trained again, so a run that was interrupted
goes on where it was; remove its folder in WORK_DIR to begin anew.
"""

import argparse
from datetime import date
from pathlib import Path

import torch
from report import collect, device, draw, write_table
from runs import Arm, make_runs, train

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
        help='of the images with boxes (default: 2 10 for digits, 20 for cards)',
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='default: 0 1 2')
    parser.add_argument(
        '--iterations',
        type=int,
        nargs=2,
        default=[1000, 2000],
        metavar=('FIRST', 'SECOND'),
        help='of the two stages (default: 1000 2000)',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        help='runs at a time, which share the cores (default: %(default)s)',
    )
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/compare'), help='default: %(default)s'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('docs/compare'), help='default: %(default)s'
    )
    return parser.parse_args()


def make_arms(stem: str, share: int, percents: list) -> list:
    first = f'gwap/rfcn_r18_{stem}-p{share}-boxes-only.py'
    seconds = {
        'boxes only': first,
        'boxes + labels, GWAP': f'gwap/rfcn_r18_gwap_{stem}-p{share}.py',
        'boxes + labels, GAP': f'gwap/rfcn_r18_gap_{stem}-p{share}.py',
    }
    arms = [
        Arm(name, first, second, percent)
        for percent in percents
        for name, second in seconds.items()
    ]
    whole = f'gwap/rfcn_r18_{stem}-all-boxes.py'
    return arms + [Arm('all boxes', whole, whole)]


def main() -> None:
    args = parse_args()
    # Training runs in the repository's folder, wherever this was called.
    args.work_dir = args.work_dir.resolve()
    data = DATA[args.data]
    arms = make_arms(args.data, data['share'], args.percents or data['percents'])
    firsts, seconds = make_runs(arms, args.seeds, args.work_dir / args.data)
    for runs, iterations in zip((firsts, seconds), args.iterations):
        train(runs, iterations, args.jobs)
    args.out.mkdir(parents=True, exist_ok=True)
    table, plot = (args.out / f'{args.data}.{kind}' for kind in ('md', 'png'))
    found = collect(seconds)
    write_table(found, data['metrics'], table, _title(args, firsts + seconds))
    draw(found, data['metrics'][0], plot)
    print(f'\n{table.read_text()}\n{table}\n{plot}')


def _title(args: argparse.Namespace, runs: list) -> str:
    hours = sum(run.result()['seconds'] for run in runs) / 3600
    first, second = args.iterations
    return (
        f'Two stages, of {first:,} and {second:,} iterations; '
        f'{len(runs)} runs, seeds {", ".join(map(str, args.seeds))}; '
        f'{hours:.1f} hours of training, {args.jobs} at a time, on '
        f'{device()}; {date.today()}, torch {torch.__version__}.'
    )


if __name__ == '__main__':
    main()
