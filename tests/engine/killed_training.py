"""Train twice: once killed at random moments and resumed, once without interruption.

Usage: python -m tests.engine.killed_training CONFIG FOLDER tiny|detector ITERATIONS KILLS

Each start of the run is a process forked from this process, which has imported the libraries. It
writes to a pipe when an iteration begins.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from tests.checkpoints import read_checkpoint
from tests.engine import tiny_model  # noqa: F401  (registers TinyModel)
from tests.processes import skip_config_formatting


class ReportIterations(Hook):
    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        os.write(self.pipe, b'.')


def train(config: str, work_dir: Path, model: str, iterations: int, pipe: int) -> None:
    torch.set_num_threads(1)
    register_all_modules()
    cfg = Config.fromfile(config)
    if model == 'tiny':
        cfg.model = dict(type='TinyModel')
    cfg.update(work_dir=str(work_dir), resume=True, log_level='ERROR')
    cfg.train_dataloader.update(num_workers=1)
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    cfg.default_hooks.checkpoint.update(interval=2, max_keep_ckpts=2)
    runner = Runner.from_cfg(cfg)
    runner.register_hook(ReportIterations(pipe))
    runner.train()


def start(*args) -> tuple:
    """Start the training; return the process and the pipe that it reports to."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.setpgid(0, 0)
    code = 1
    try:
        os.close(reading)
        train(*args, writing)
        code = 0
    finally:
        os._exit(code)


def run_to_the_end(*args) -> None:
    pid, pipe = start(*args)
    while os.read(pipe, 4096):
        pass
    _, status = os.waitpid(pid, 0)
    os.close(pipe)
    assert status == 0, f'the training failed with {status}'


def run_and_kill(rng: random.Random, *args) -> None:
    """Kill the training within one of its first iterations."""
    pid, pipe = start(*args)
    begun = time.perf_counter()
    for _ in range(rng.randint(1, 5)):
        begun, before = time.perf_counter(), begun
        assert os.read(pipe, 1), 'the training ended before it was killed'
    time.sleep(rng.uniform(0, min(time.perf_counter() - before, 0.5)))
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(pipe)


def check(work_dir: Path) -> str:
    """Check that all checkpoints are complete; return the checkpoint that --resume reads."""
    for path in work_dir.glob('*.pth'):
        state = read_checkpoint(path)
        assert path.name == f'iter_{state["meta"]["iter"]}.pth'
        assert {'state_dict', 'optimizer', 'param_schedulers'} <= set(state)
    pointer = work_dir / 'last_checkpoint'
    if not pointer.exists():
        return 'none'
    last = Path(pointer.read_text())
    assert last.is_file(), f'{pointer} names {last}, which does not exist'
    return last.stem


def main(config: str, folder: str, model: str, iterations: str, kills: str) -> None:
    skip_config_formatting()
    rng = random.Random(0)
    killed, whole = (
        (config, Path(folder) / name, model, int(iterations)) for name in ('killed', 'whole')
    )
    for number in range(int(kills)):
        run_and_kill(rng, *killed)
        print(f'kill {number + 1}: {check(killed[1])}', flush=True)
    for run in (killed, whole):
        run_to_the_end(*run)
        print(run[1].name, check(run[1]), flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
