"""A training that is killed at random moments, and one that isn't.

Usage: python -m tests.engine.killed_training CONFIG FOLDER ITERATIONS KILLS

Each life of the run is a process of its own, forked from this one, which has
imported all that takes long; it says on a pipe when an iteration begins.
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


class Tell(Hook):
    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        os.write(self.pipe, b'.')


def train(config: str, work_dir: Path, iterations: int, pipe: int) -> None:
    torch.set_num_threads(1)
    register_all_modules()
    cfg = Config.fromfile(config)
    cfg.update(work_dir=str(work_dir), resume=True, log_level='ERROR')
    cfg.train_dataloader.update(num_workers=1)
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    cfg.default_hooks.checkpoint.update(interval=2, max_keep_ckpts=2)
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Tell(pipe))
    runner.train()


def start(*args) -> tuple:
    """A life: its process and the pipe on which it tells of iterations."""
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


def live(*args) -> None:
    """A life that ends by itself."""
    pid, pipe = start(*args)
    while os.read(pipe, 4096):
        pass
    _, status = os.waitpid(pid, 0)
    os.close(pipe)
    assert status == 0, f'the training failed with {status}'


def die(rng: random.Random, *args) -> None:
    """A life that is killed, some iterations after its start."""
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
    """Every checkpoint is whole; returns what ``--resume`` would take."""
    for path in work_dir.glob('*.pth'):
        state = read_checkpoint(path)
        assert path.name == f'iter_{state["meta"]["iter"]}.pth'
        assert {'state_dict', 'optimizer', 'param_schedulers'} <= set(state)
    pointer = work_dir / 'last_checkpoint'
    if not pointer.exists():
        return 'none'
    last = Path(pointer.read_text())
    assert last.is_file(), f'{pointer} names {last}, which is not there'
    return last.stem


def main(config: str, folder: str, iterations: str, kills: str) -> None:
    rng = random.Random(0)
    run = config, Path(folder) / 'killed', int(iterations)
    for number in range(int(kills)):
        die(rng, *run)
        print(f'kill {number + 1}: {check(run[1])}', flush=True)
    live(*run)
    live(config, Path(folder) / 'whole', int(iterations))
    for name in ('killed', 'whole'):
        print(name, check(Path(folder) / name), flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
