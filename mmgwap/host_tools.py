"""mmdet's own command-line tools, run with safe checkpoints.

The command line stays that of the installed mmdet, whichever it is.
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

from .checkpoint import safe_checkpoints


def find_tool(name: str) -> Path:
    """Path of a tool of the installed mmdet, such as 'train.py'.

    Raises:
        FileNotFoundError: if the installation came without its tools.
    """
    package = Path(mmdet.__file__).parent
    # An installed mmdet has its tools in .mim, a checkout beside the package.
    for folder in (package / '.mim' / 'tools', package.parent / 'tools'):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f'the mmdet at {package} came without tools/{name}; install it from '
        'its wheel or keep its checkout'
    )


def parse_tool_args(name: str) -> argparse.Namespace:
    """What a tool of the installed mmdet reads from ``sys.argv``."""
    return runpy.run_path(str(find_tool(name)))['parse_args']()


def run_tool(name: str) -> None:
    """Run a tool of the installed mmdet on this process's arguments.

    Checkpoints are read without running code from them; one that holds other
    objects than weights and training state ends the process with one line.
    """
    tool = find_tool(name)
    sys.argv[0] = str(Path('tools') / name)
    with safe_checkpoints(), _cpu_group():
        runpy.run_path(str(tool), run_name='__main__')


@contextmanager
def _cpu_group() -> Iterator[None]:
    """Let processes without GPUs train together.

    mmengine takes for granted that each process has a GPU, unless it finds the
    group made and the wrapper's device given.
    """
    if torch.cuda.is_available() or not _launched():
        yield
        return
    torch.distributed.init_process_group('gloo')
    _wrap_without_device()
    yield
    # Gloo's threads may still hold Python objects. Letting go of one while the
    # interpreter ends aborts the process, so the threads end first; the
    # collection frees the wrapped model, which would keep them.
    torch.distributed.barrier()
    gc.collect()
    torch.distributed.destroy_process_group()


def _launched() -> bool:
    """Whether this is one of several processes, and told so by a launcher.

    What Slurm says of the processes is said in torch's words as well.
    """
    words = [word for one in sys.argv for word in one.split('=')]
    if 'slurm' in words and 'SLURM_PROCID' in os.environ:
        env = os.environ
        env.update(
            RANK=env['SLURM_PROCID'],
            LOCAL_RANK=env['SLURM_LOCALID'],
            WORLD_SIZE=env['SLURM_NTASKS'],
        )
        env.setdefault('MASTER_PORT', '29500')
        if 'MASTER_ADDR' not in env:
            hosts = subprocess.check_output(
                ['scontrol', 'show', 'hostnames', env['SLURM_NODELIST']]
            )
            env['MASTER_ADDR'] = hosts.decode().split()[0]
        return True
    return 'pytorch' in words and 'RANK' in os.environ


def _wrap_without_device() -> None:
    """Ask for a wrapper of the model that is not on a GPU."""
    option = '--cfg-options'
    if option not in sys.argv:
        sys.argv.append(option)
    place = sys.argv.index(option) + 1
    sys.argv[place:place] = [
        'model_wrapper_cfg.type=MMDistributedDataParallel',
        'model_wrapper_cfg.device_ids=None',
        'model_wrapper_cfg.broadcast_buffers=False',
    ]
