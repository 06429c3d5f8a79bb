"""Run the command-line tools of the installed mmdet with safe checkpoints.

The options are those of the installed mmdet.
"""

import argparse
import gc
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mmdet
import torch

from mmgwap.checkpoint import safe_checkpoints


def find_tool(name: str) -> Path:
    """Find a tool of the installed mmdet.

    Args:
        name (str): file name below mmdet's ``tools/``, such as 'train.py'.

    Raises:
        FileNotFoundError: if mmdet was installed without its tools.
    """
    package = Path(mmdet.__file__).parent
    # An installed mmdet has its tools in .mim, a checkout beside the package.
    for folder in (package / '.mim' / 'tools', package.parent / 'tools'):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f'tools/{name}: missing in the mmdet installed at {package}; install mmdet from its wheel '
        'or keep its checkout'
    )


def parse_tool_args(name: str) -> argparse.Namespace:
    """Parse ``sys.argv`` with the argument parser of a tool of the installed mmdet."""
    return runpy.run_path(str(find_tool(name)))['parse_args']()


def run_tool(name: str) -> None:
    """Run a tool of the installed mmdet with the arguments of this process.

    Checkpoints are read without running code from them. A checkpoint that holds objects other
    than weights and training state ends the process with a one-line error.
    """
    tool = find_tool(name)
    sys.argv[0] = str(Path('tools') / name)
    launcher = parse_tool_args(name).launcher
    with safe_checkpoints(), _cpu_process_group(launcher):
        runpy.run_path(str(tool), run_name='__main__')


@contextmanager
def _cpu_process_group(launcher: str) -> Iterator[None]:
    """Create a gloo process group if processes without GPUs are launched together.

    mmengine assumes a GPU for each process unless the process group exists already and the
    config of the model wrapper sets ``device_ids``.
    """
    if torch.cuda.is_available() or not _is_launched(launcher):
        yield
        return
    torch.distributed.init_process_group('gloo')
    _add_cpu_model_wrapper()
    yield
    # A thread of gloo that releases a Python object while the interpreter ends aborts the
    # process, so the threads have to end first. The wrapped model would keep them alive.
    torch.distributed.barrier()
    gc.collect()
    torch.distributed.destroy_process_group()


def _is_launched(launcher: str) -> bool:
    """Return whether the launcher has set its environment variables for this process.

    The variables of Slurm are copied to the variables that torch reads.
    """
    env = os.environ
    if launcher == 'slurm' and 'SLURM_PROCID' in env:
        env['RANK'] = env['SLURM_PROCID']
        env['LOCAL_RANK'] = env['SLURM_LOCALID']
        env['WORLD_SIZE'] = env['SLURM_NTASKS']
        env.setdefault('MASTER_PORT', '29500')
        if 'MASTER_ADDR' not in env:
            command = ['scontrol', 'show', 'hostnames', env['SLURM_NODELIST']]
            env['MASTER_ADDR'] = subprocess.check_output(command, text=True).split()[0]
        return True
    return launcher == 'pytorch' and 'RANK' in env


def _add_cpu_model_wrapper() -> None:
    """Add config options to ``sys.argv`` that wrap the model without a GPU."""
    option = '--cfg-options'
    if option not in sys.argv:
        sys.argv.append(option)
    position = sys.argv.index(option) + 1
    sys.argv[position:position] = [
        'model_wrapper_cfg.type=MMDistributedDataParallel',
        'model_wrapper_cfg.device_ids=None',
        'model_wrapper_cfg.broadcast_buffers=False',
    ]
