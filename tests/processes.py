"""Several processes that train together, over gloo on this machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Done(NamedTuple):
    """What is left of a process."""

    code: int
    output: str
    errors: str


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def launch(repo: Path, world: int, module: str, *args) -> list[Done]:
    """Run a module in so many processes, and wait for all of them."""
    variables = dict(
        os.environ,
        WORLD_SIZE=str(world),
        LOCAL_RANK='0',
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(free_port()),
        OMP_NUM_THREADS='1',
    )
    processes = [
        subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-m', module, *map(str, args)],
            cwd=repo,
            env=dict(variables, RANK=str(rank)),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(world)
    ]
    outputs = [process.communicate(timeout=600) for process in processes]
    return [Done(process.returncode, *output) for process, output in zip(processes, outputs)]
