"""Measure speed and memory of operators, models and data sets beside other implementations.

The folder OUT receives, with DEVICE either cpu or cuda:

    DEVICE.json     all numbers, written after each case
    DEVICE.md       tables, with the targets
    DEVICE-*.png    growth over RoIs, classes, image size and number of images

With --only the files are named DEVICE-part. docs/speed.md describes the method.
"""

import argparse
import gc
import os
import shlex
import sys
import time
import warnings
from pathlib import Path

# Keep torch's profiler from printing at each start and end; both are read at torch's import.
os.environ.setdefault('KINETO_LOG_LEVEL', '6')
os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')

import data  # noqa: E402
import mmcv  # noqa: E402
import mmdet  # noqa: E402
import models  # noqa: E402
import operators  # noqa: E402
import torch  # noqa: E402
from measure import UnequalResult, copy_bandwidth, run_case  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from report import case_lines, count_targets, write_json, write_markdown  # noqa: E402
from torch.utils.collect_env import get_pretty_env_info  # noqa: E402

TURNS = dict(cpu=7, cuda=10)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        'tools/benchmarks',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--only', nargs='+', metavar='TEXT', help='cases whose name contains TEXT')
    parser.add_argument('--list', action='store_true', help='print the names of the cases')
    parser.add_argument('--turns', type=int, help='blocks of calls (default: CPU 7, GPU 10)')
    parser.add_argument('--tiny', action='store_true', help='sizes for tests of the benchmark')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/bench'), help='output folder')
    args = parser.parse_args()
    if args.turns is not None and args.turns < 1:
        parser.error(f'--turns must be at least 1, got {args.turns}')
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: torch finds no GPU')
    return args


def main() -> None:
    args = parse_args()
    warnings.filterwarnings('always', module='mmgwap')  # Triton kernels that do not run
    mmdet.utils.register_all_modules()
    MMLogger.get_current_instance().setLevel('ERROR')
    size = 'tiny' if args.tiny else args.device
    device = torch.device(args.device)
    cases = [case for module in (operators, models, data) for case in module.cases(size, device)]
    if args.only:
        cases = [case for case in cases if any(text in case.name for text in args.only)]
    if not cases:
        sys.exit(f'--only {shlex.join(args.only)}: no case has such a name, see --list')
    if args.list:
        print(*(case.name for case in cases), sep='\n')
    else:
        run(cases, device, args)


def run(cases: list, device: torch.device, args: argparse.Namespace) -> None:
    """Run the cases; whatever ends the run, the results until then are written."""
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / (device.type + '-part' * bool(args.only))
    turns, start = args.turns or TURNS[device.type], time.monotonic()
    report = dict(
        device=torch.cuda.get_device_name(device) if device.type == 'cuda' else 'a CPU',
        date=time.strftime('%Y-%m-%d'),
        command=shlex.join(['python', 'tools/benchmarks', *sys.argv[1:]]),
        versions=f'torch {torch.__version__}, mmcv {mmcv.__version__}, mmdet {mmdet.__version__}',
        threads=torch.get_num_threads(),
        environment=get_pretty_env_info(),
        bandwidth=copy_bandwidth(device, turns),
        remaining=[case.name for case in cases],
        results=[],
        seconds=0.0,
    )
    try:
        for case in cases:
            report['results'].append(run_case(case, device, turns, report['bandwidth']))
            report['remaining'].remove(case.name)
            report['seconds'] = time.monotonic() - start
            write_json(report, path.with_suffix('.json'))
            print(case.group, *case_lines(report['results'][-1]), '', sep='\n', flush=True)
            gc.collect()
            torch.cuda.empty_cache()
    finally:
        plots = write_markdown(report, path.with_suffix('.md'))
        print(count_targets(report['results']), path.with_suffix('.md'), *plots, sep='\n')


if __name__ == '__main__':
    try:
        main()
    except UnequalResult as error:
        sys.exit(f'unequal result: {error}')
