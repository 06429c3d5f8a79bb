"""Measure speed and memory, beside the operators and models of others.

Writes into the folder OUT, with DEVICE the name of the device:

    DEVICE.json     all numbers, with clocks and versions
    DEVICE.md       tables: medians, ratios, targets, share of the limit
    DEVICE-*.png    growth over RoIs, classes, sizes and images

What fails or does not fit into memory is told in the table.  Contenders are
checked against each other before they are timed; if one computes something
else, all stops with status 1.  docs/speed.md says how to read the numbers.
"""

import quiet  # noqa: F401,I001  before torch

import argparse
import gc
import shlex
import sys
import time
from importlib import import_module
from pathlib import Path
from collections.abc import Iterable

import torch
from contest import Setting
from equal import WrongResult
from limit import copy_bandwidth
from machine import clocks, device_name, file_stem, seconds_of_others, surroundings
from plots import draw
from sizes import Sizes, sizes_for
from table import case_lines, count_targets, series_lines, write_json, write_markdown
from timing import failure

# By group, the module whose cases(sizes, device) it is.
GROUPS = dict(
    lip='lip_cases',
    vote='vote_cases',
    classifiers='classifier_cases',
    detectors='detector_cases',
    wsol='wsol',
)
GROWTH = 'growth'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='tools/benchmarks',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    parser.add_argument(
        '--only',
        nargs='+',
        choices=[*GROUPS, GROWTH],
        metavar='GROUP',
        help=f'of {", ".join(GROUPS)}, {GROWTH}; their names are appended to DEVICE',
    )
    parser.add_argument(
        '--runs',
        type=int,
        help='of each contender (default: 20 on a GPU, 7 on a CPU, 3 where one takes seconds)',
    )
    parser.add_argument('--threads', type=int, default=0, help='0, the default, leaves it to torch')
    parser.add_argument(
        '--full',
        action='store_true',
        help='all points of growth on a CPU too: an hour, 10 GB of memory',
    )
    parser.add_argument(
        '--toy', action='store_true', help='sizes that tell nothing, to try the suite out'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/bench'), help='default: %(default)s'
    )
    args = parser.parse_args()
    if args.runs is not None and args.runs < 1:
        parser.error(f'--runs must be at least 1, got {args.runs}')
    try:
        args.device = torch.device(args.device)
    except RuntimeError:
        parser.error(f'--device must be cpu or cuda, got {args.device}')
    if args.device.type not in ('cpu', 'cuda'):
        parser.error(f'--device must be cpu or cuda, got {args.device}')
    if args.device.type == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: torch finds no GPU')
    return args


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    sizes = sizes_for(args.device, args.toy, args.full)
    if args.runs:
        sizes = sizes._replace(runs=args.runs, slow_runs=args.runs, growth_runs=args.runs)
    report = begin_report(args)
    setting = Setting(args.device, sizes.runs, report['copy_bytes_per_second'])
    while report['to_come']:
        group, begin = report['to_come'][0], time.monotonic()
        if group == GROWTH:
            report['growth'] = list(run_growth(sizes, setting))
        else:
            report['results'][group] = list(run_group(GROUPS[group], sizes, setting))
        report['group_seconds'][group] = time.monotonic() - begin
        del report['to_come'][0]
        # Now, that a run which is broken off leaves what it has.
        written = write(report, args)
    print(count_targets(report), *written, sep='\n')


def begin_report(args: argparse.Namespace) -> dict:
    """What holds for all of it; nothing is measured yet but a copy."""
    return dict(
        surroundings=surroundings(args.device),
        command=shlex.join(['python', 'tools/benchmarks', *sys.argv[1:]]),
        begin=time.time(),
        others_before=seconds_of_others(),
        clocks=dict(before=clocks(args.device)),
        copy_bytes_per_second=copy_bandwidth(args.device),
        to_come=[group for group in (*GROUPS, GROWTH) if not args.only or group in args.only],
        group_seconds={},
        results={},
        growth=[],
    )


def run_group(module: str, sizes: Sizes, setting: Setting) -> Iterable[dict]:
    """Run the cases of a group, and print each as it is done."""
    try:
        cases = list(import_module(module).cases(sizes, setting.device))
    except ImportError as error:  # an environment without mmdet, for one
        yield dict(work=module, failure=failure(error).reason)
        return
    for case in cases:
        result = case.run(setting)
        print('\n'.join(case_lines(result)), end='\n\n', flush=True)
        _free(setting.device)
        yield result


def run_growth(sizes: Sizes, setting: Setting) -> Iterable[dict]:
    """Run the series, and print each as it is done."""
    from growth import series

    for one in series(sizes, setting.device):
        for found in one.run(setting._replace(runs=sizes.growth_runs)):
            print('\n'.join(series_lines(found)), end='\n\n', flush=True)
            yield found
        _free(setting.device)


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.empty_cache()


def write(report: dict, args: argparse.Namespace) -> list[Path]:
    """Write JSON, tables and plots; returns where they are."""
    report['clocks']['after'] = clocks(args.device)
    report['seconds'] = time.time() - report['begin']
    report['cores_of_others'] = (seconds_of_others() - report['others_before']) / report['seconds']
    args.out.mkdir(parents=True, exist_ok=True)
    stem = '-'.join([file_stem(device_name(args.device)), *['toy'] * args.toy, *(args.only or ())])
    numbers, table = (args.out / f'{stem}.{kind}' for kind in ('json', 'md'))
    plots = []
    for series in report['growth']:
        plots.append(args.out / f'{stem}-{series["key"]}.png')
        draw(series, plots[-1])
    write_json(report, numbers)
    write_markdown(report, table, plots)
    return [numbers, table, *plots]


if __name__ == '__main__':
    try:
        main()
    except WrongResult as error:
        sys.exit(f'wrong result: {error}')
