"""Compile mmcv for the GPU of this machine, test on it, and measure.

    python3 tools/gpu_check [--python PYTHON] [--venv DIR] [--wheels DIR]
                            [--only build|test|bench]
    python3 tools/gpu_check --save-wheels DIR [--for-python 3.12] [--slim]

Uses the torch with CUDA that is there, and changes nothing of the Python that
it belongs to: what this lacks goes into an environment of its own, and the
compiled mmcv into the cache of make install.  A compilation that is broken
off goes on where it was.

The second form fills a folder for --wheels, for a machine without a network;
it needs neither torch nor a GPU.
"""

import argparse
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), 'install')]
import surroundings  # noqa: E402

surroundings.PROGRAM = 'make gpu-check'
if sys.version_info < (3, 8):
    surroundings.stop(
        'Python {}.{} at {} is too old; name another: make gpu-check PYTHON=path'.format(
            *sys.version_info[:2], sys.executable
        )
    )

import gpu_wheels  # noqa: E402
import local_python  # noqa: E402
import mmcv_wheel  # noqa: E402
import overlay  # noqa: E402
import trials  # noqa: E402

VERSIONS = """
import importlib, json, platform, subprocess
found = ['Python ' + platform.python_version()]
for name in ('torch', 'triton', 'mmcv', 'mmdet', 'mmengine', 'numpy', 'cv2'):
    try:
        found.append(name + ' ' + importlib.import_module(name).__version__)
    except ImportError as error:
        found.append('{} does not import ({})'.format(name, error))
print()
print(json.dumps(', '.join(found)))
"""
DISK_GB = 3  # mmcv, while it is compiled


def parse_args():
    parser = argparse.ArgumentParser(
        prog='make gpu-check',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--stack', choices=tuple(mmcv_wheel.VERSIONS), default='onedl', help='default: onedl'
    )
    parser.add_argument(
        '--python',
        default='',
        help='whose torch has CUDA (default: the first of {})'.format(
            ', '.join(local_python.CANDIDATES)
        ),
    )
    parser.add_argument('--venv', default='.venv-gpu', help='default: .venv-gpu')
    parser.add_argument(
        '--wheels', metavar='DIR', default='', help='install from this folder, without a network'
    )
    parser.add_argument(
        '--only',
        choices=('', 'build', 'test', 'bench'),
        default='',
        help='one stage; test and bench build what is not built. With '
        'TORCH_CUDA_ARCH_LIST set, build needs no GPU',
    )
    parser.add_argument('--bench-options', metavar='"..."', default='', help='for tools/benchmarks')
    parser.add_argument(
        '--save-wheels', metavar='DIR', default='', help='fill a folder for --wheels'
    )
    parser.add_argument(
        '--for-python',
        metavar='X.Y',
        default='{}.{}'.format(*sys.version_info[:2]),
        help="of that folder (default: this one's)",
    )
    parser.add_argument(
        '--slim', action='store_true', help='leave out of it what is large and common'
    )
    return parser.parse_args()


def main():
    args = parse_args()
    if args.save_wheels:
        surroundings.PROGRAM = 'make gpu-wheels'
        gpu_wheels.save(args.stack, args.save_wheels, args.for_python, args.slim)
        return
    if args.wheels and not os.path.isdir(args.wheels):
        surroundings.stop(f'WHEELS={args.wheels}: no such folder')
    local_python.run_by(local_python.choose(args.python))
    start = time.time()
    local = local_python.probe()
    archs = os.environ.get('TORCH_CUDA_ARCH_LIST') or local.archs
    local_python.check(local, args.only != 'build' or not archs)
    env = overlay.Overlay(args.venv, args.stack, args.wheels, local, archs)
    with env.locked():
        if not env.is_finished():
            build(env, local, archs)
    lines, passed = run(env, args)
    summarize(env, local, archs, lines)
    surroundings.say(
        'gpu-check{} {} in {:.0f} s'.format(
            f' ({args.only} alone)' if args.only else '',
            'passed' if passed else 'FAILED',
            time.time() - start,
        )
    )
    sys.exit(not passed)


def build(env, local, archs):
    """Make the environment, from the checks to the mark."""
    env.check_wheels()
    name = mmcv_wheel.folder_name(env.stack, local.torch, mmcv_wheel.cuda_name(local.cuda), archs)
    if not mmcv_wheel.find(name, env.wheels):
        mmcv_wheel.means(env.stack, name, local.cuda, env.wheels)
        surroundings.check_disk(mmcv_wheel.cache_folder(), DISK_GB)
    env.fill()
    env.install_wheel(mmcv_wheel.get(env, archs))
    env.install_project()
    env.finish()


def run(env, args):
    """Run the stages that are asked for; lines of them, and if all passed."""
    lines, passed = [], True
    for stage, call in (
        ('test', lambda: trials.run_tests(env)),
        ('bench', lambda: trials.run_bench(env, args.bench_options.split())),
    ):
        if args.only in ('', stage):
            good, line = call()
            lines.append(line)
            passed = passed and good
    return lines, passed


def summarize(env, local, archs, lines):
    """Say in a few lines what was used and what came out."""
    names = sorted({device[0] for device in local.devices}) or ['no GPU']
    surroundings.say(
        '\ngpu-check: {} x {} (mmcv compiled for {}), CUDA {}'.format(
            len(local.devices), ', '.join(names), archs, local.cuda
        )
    )
    surroundings.say('versions: ' + env.ask(VERSIONS))
    for line in lines:
        surroundings.say(line)


if __name__ == '__main__':
    main()
