"""Make the environment that the README's commands run in.

    python3 tools/install [--stack onedl|openmmlab] [--venv DIR]
                          [--wheels DIR] [--save-wheels DIR]

Creates the environment, installs pinned dependencies, compiles mmcv against
the installed torch, or takes the wheel that it compiled before, and installs
this repository in editable form.  A finished environment is left as it is; a
half-made one is made again.
"""

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import surroundings  # noqa: E402

surroundings.check_python()  # before anything that an old Python can't parse

import environment  # noqa: E402
import mmcv_wheel  # noqa: E402

STACKS = ('onedl', 'openmmlab')
TORCH = '2.13.0'


def parse_args():
    parser = argparse.ArgumentParser(
        prog='make install',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--stack',
        choices=STACKS,
        default='onedl',
        help='distributions of mmcv, mmdet and mmengine (default: onedl)',
    )
    parser.add_argument('--venv', default='.venv', help='default: .venv')
    parser.add_argument(
        '--wheels',
        metavar='DIR',
        default='',
        help='install from this folder alone, without a network',
    )
    parser.add_argument(
        '--save-wheels',
        metavar='DIR',
        default='',
        help='fill a folder for --wheels instead of installing',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    if args.wheels and not os.path.isdir(args.wheels):
        sys.exit(f'make install: WHEELS={args.wheels}: no such folder')
    target = environment.Environment(args.venv, args.stack, TORCH, args.wheels)
    with target.locked():
        if not target.is_finished():
            install(target)
        if args.save_wheels:
            target.save_wheels(args.save_wheels)
            mmcv_wheel.save(target, args.save_wheels)


def install(target):
    """Make the environment, from the checks to the mark."""
    start = time.time()
    surroundings.check(target.path, mmcv_wheel.is_at_hand(target.stack, TORCH, target.wheels))
    target.create()
    target.install_dependencies()
    target.install_wheel(mmcv_wheel.get(target))
    target.install_project()
    target.finish()
    surroundings.say(f'installed {target.name} in {time.time() - start:.0f} s')


if __name__ == '__main__':
    main()
