"""Test a detector: mmdet's own tools/test.py with safe checkpoints.

Write the files for an evaluation server, which has the annotations:

    tools/test.py CONFIG CHECKPOINT --coco-test-dev --out DIR [--alg NAME]
    tools/test.py CONFIG CHECKPOINT --voc-results [2007|2012] --out DIR

With these options --out is a folder. DIR also receives the log and the config of the run.
All other options are mmdet's:
"""

import argparse
import sys
import tempfile
from pathlib import Path

from mmengine.config import Config, DictAction
from run_mmdet_tool import parse_tool_args, run_tool
from submissions import YEARS, algorithm_name, coco_test_dev, voc_results

from mmgwap.evaluation.functional import SubmissionError

SUBMISSION_OPTIONS = ('--coco-test-dev', '--voc-results')


def parse_submission_args() -> argparse.Namespace:
    """Parse the options for servers and remove them from ``sys.argv``."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    server = parser.add_mutually_exclusive_group(required=True)
    server.add_argument('--coco-test-dev', action='store_true')
    server.add_argument('--voc-results', nargs='?', type=int, choices=YEARS, const=2007)
    parser.add_argument('--out', type=Path, metavar='DIR', required=True)
    parser.add_argument('--alg', metavar='NAME')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    args, sys.argv[1:] = parser.parse_known_args()
    if args.alg is not None and not args.coco_test_dev:
        parser.error('--alg is allowed with --coco-test-dev only')
    if args.out.exists() and not args.out.is_dir():
        parser.error(f'--out {args.out}: must be a folder, got a file')
    return args


def submission_config(args: argparse.Namespace, config: str) -> Config:
    """Return the config that tests for the server."""
    if not Path(config).is_file():
        raise SubmissionError(f'{config}: config does not exist')
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(args.cfg_options)
    if args.coco_test_dev:
        coco_test_dev(cfg, args.out, args.alg or algorithm_name(Path(config)))
    else:
        voc_results(cfg, args.out, args.voc_results)
    return cfg


def run_for_server() -> None:
    args = parse_submission_args()
    config = parse_tool_args('test.py').config
    cfg = submission_config(args, config)
    suffix = 'test-dev' if args.coco_test_dev else f'voc{args.voc_results}'
    # Each process writes its own file, so that no process has to wait for another. mmdet copies
    # the file of the first process to the work directory.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f'{Path(config).stem}_{suffix}.py'
        cfg.dump(path)
        sys.argv[sys.argv.index(config)] = str(path)
        run_tool('test.py')


def main(argv: list[str]) -> None:
    if {'-h', '--help'} & set(argv):
        print(__doc__)
    elif any(word.split('=')[0] in SUBMISSION_OPTIONS for word in argv):
        try:
            return run_for_server()
        except SubmissionError as error:
            sys.exit(str(error))
    run_tool('test.py')


if __name__ == '__main__':
    main(sys.argv[1:])
