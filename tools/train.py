"""Train a detector: mmdet's own tools/train.py with safe checkpoints."""

import os.path as osp
import sys

from mmengine.config import Config
from run_mmdet_tool import parse_tool_args, run_tool


def find_empty_work_dir() -> str:
    """Return the work directory if ``--resume`` finds no checkpoint in it, else ''."""
    args = parse_tool_args('train.py')
    if args.resume != 'auto' or not osp.isfile(args.config):
        return ''
    stem = osp.splitext(osp.basename(args.config))[0]
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    folder = args.work_dir or cfg.get('work_dir') or f'./work_dirs/{stem}'
    return '' if osp.exists(osp.join(folder, 'last_checkpoint')) else folder


if __name__ == '__main__':
    if '--resume' in sys.argv:
        work_dir = find_empty_work_dir()
        if work_dir:
            # mmdet would ignore load_from and start from random weights.
            print(f'nothing to resume in {work_dir}: training starts from the beginning')
            sys.argv.remove('--resume')
    run_tool('train.py')
