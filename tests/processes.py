"""Run scripts, and groups of training processes, apart from the test's own process."""

import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
import warnings
from pathlib import Path
from subprocess import CompletedProcess

import torch
from mmengine.config import config
from yapf.yapflib import yapf_api

# Importing mmdet takes most of the time of a short command. The server imports it once and
# forks a clean process for each command. mmgwap is imported by the command itself. With a GPU
# each command starts a new interpreter: mmdet initializes CUDA, which a fork does not survive.
_SERVER = multiprocessing.get_context('spawn' if torch.cuda.is_available() else 'forkserver')
_SERVER.set_forkserver_preload(
    ['mmdet.apis', 'mmdet.datasets', 'mmdet.engine', 'mmdet.evaluation', 'mmdet.visualization']
)


class Command:
    """``python -W ignore SCRIPT ARGS`` or ``python -W ignore -m MODULE ARGS``, started.

    Args:
        repo (Path): working directory.
        name (str): path of a script, path of a folder with ``__main__.py``, or name of a
            module (no slash).
        args (list): arguments of the command line.
        variables (dict): environment variables to change.
    """

    def __init__(self, repo: Path, name: str, args: list, variables: dict):
        self.args = [str(name), *map(str, args)]
        self.folder = tempfile.TemporaryDirectory()
        self.process = _SERVER.Process(
            target=_run,
            args=(str(repo), self.args, dict(os.environ, **variables), self.folder.name),
        )
        self.process.start()

    def wait(self, timeout: float = 600) -> CompletedProcess:
        """Wait for the end; kill the process after ``timeout`` seconds."""
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        output = [(Path(self.folder.name) / name).read_text() for name in ('stdout', 'stderr')]
        self.folder.cleanup()
        return CompletedProcess(self.args, self.process.exitcode, *output)


def _run(repo: str, command: list, environment: dict, folder: str) -> None:
    """Become the command, with its output in two files of the folder."""
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        stream.flush()
        with open(os.path.join(folder, name), 'w') as file:
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(repo)
    os.environ.clear()  # the server has the environment of the first command
    os.environ.update(environment)
    warnings.simplefilter('ignore')
    skip_config_formatting()
    sys.argv = command
    if '/' not in command[0]:
        sys.path.insert(0, repo)
        runpy.run_module(command[0], run_name='__main__', alter_sys=True)
        return
    script = os.path.abspath(command[0])
    sys.path.insert(0, script if os.path.isdir(script) else os.path.dirname(script))
    runpy.run_path(script, run_name='__main__')


def skip_config_formatting() -> None:
    """Let mmengine write configs without formatting them.

    A run writes its config several times, into the log and into each checkpoint. Formatting takes
    half a second each time.
    """
    yapf_api.FormatCode = lambda text, **kwargs: (text, True)
    # mmengine imports the function at each call, or together with the module.
    if hasattr(config, 'FormatCode'):
        config.FormatCode = yapf_api.FormatCode


def free_port() -> int:
    """Choose a port that no process of this machine listens on.

    Each pytest worker has a range of its own, below the range from which the system hands
    out ports, so parallel tests do not choose the same port.
    """
    worker = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0')[2:])
    first = 20000 + worker % 100 * 100
    for port in range(first, first + 100):
        with socket.socket() as listener:
            try:
                listener.bind(('127.0.0.1', port))
            except OSError:
                continue
            return port
    raise RuntimeError(f'no port from {first} to {first + 99} is free')


def launch(repo: Path, world: int, module: str, *args) -> list[CompletedProcess]:
    """Run a module in ``world`` processes connected over gloo, and wait for all of them."""
    variables = dict(
        WORLD_SIZE=str(world), LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port())
    )
    commands = [
        Command(repo, module, args, dict(variables, RANK=str(rank))) for rank in range(world)
    ]
    return [command.wait() for command in commands]
