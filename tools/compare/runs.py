"""The trainings of a comparison, and what came of each."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, Optional

REPO = Path(__file__).resolve().parents[2]


class Arm(NamedTuple):
    """One way of training, in two stages.

    Attributes:
        name: as in table and plot.
        first: config of the first stage, under configs/.
        second: of the second, which goes on from the first's weights.
        percent: of the images with boxes; None where all have them.
    """

    name: str
    first: str
    second: str
    percent: Optional[float] = None


class Run(NamedTuple):
    """A stage of an arm with a seed: of weights, order and choice of boxes."""

    arm: Arm
    seed: int
    config: str
    folder: Path
    after: Optional['Run'] = None

    def command(self, iterations: int) -> list[str]:
        options = [
            f'randomness.seed={self.seed}',
            f'train_cfg.max_iters={iterations}',
            f'train_cfg.val_interval={iterations}',
            f'param_scheduler.1.end={iterations}',
        ]
        if self.arm.percent is not None:
            options += [
                f'train_dataloader.dataset.percent={self.arm.percent}',
                f'train_dataloader.dataset.seed={self.seed}',
            ]
        if self.after:
            last = (self.after.folder / 'last_checkpoint').read_text()
            options.append(f'load_from={last.strip()}')
        return [
            sys.executable,
            '-W',
            'ignore',
            'tools/train.py',
            f'configs/{self.config}',
            '--work-dir',
            str(self.folder),
            '--cfg-options',
            *options,
        ]

    def result(self) -> Optional[dict]:
        """Metrics of the last validation, seconds of training, options.

        None if it has not come to its end.
        """
        done = self.folder / 'result.json'
        return json.loads(done.read_text()) if done.is_file() else None


def make_runs(arms: list[Arm], seeds: list[int], folder: Path) -> tuple[list[Run], list[Run]]:
    """First and second stages; arms that begin alike share the first."""
    firsts, seconds = {}, []
    for seed in seeds:
        for arm in arms:
            share = '' if arm.percent is None else f'-{arm.percent:g}'
            end = f'{share}-seed{seed}'
            key = Path(arm.first).stem + end
            first = firsts.setdefault(key, Run(arm, seed, arm.first, folder / 'first' / key))
            seconds.append(
                Run(arm, seed, arm.second, folder / 'second' / (Path(arm.second).stem + end), first)
            )
    return list(firsts.values()), seconds


def train(runs: list[Run], iterations: int, jobs: int) -> None:
    """Train what has no result yet, so many runs at a time.

    A run that fails ends all, with the last line of its log; so does a result
    of other options.
    """
    waiting = []
    for run in runs:
        result = run.result()
        if result is None:
            waiting.append(run)
        elif result['command'] != run.command(iterations)[3:]:
            sys.exit(
                f'{run.folder}: was trained with other options, '
                f'{" ".join(result["command"])}; remove it, or choose '
                'another --work-dir'
            )
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    running = []
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(_start(waiting.pop(0), iterations, threads))
        run, process = _wait_for_any(running)
        running.remove((run, process))
        if process.returncode:
            for _, other in running:
                other.terminate()
            log = (run.folder / 'log.txt').read_text().strip().splitlines()
            sys.exit(f'{run.folder}: training failed: {log[-1] if log else ""}')
        _save_result(run, run.command(iterations)[3:])
        print(f'{run.folder}: {json.dumps(run.result())}', flush=True)


def _start(run: Run, iterations: int, threads: int) -> tuple:
    run.folder.mkdir(parents=True, exist_ok=True)
    with open(run.folder / 'log.txt', 'w') as log:
        process = subprocess.Popen(
            run.command(iterations),
            cwd=REPO,
            stdout=log,
            stderr=log,
            env=dict(os.environ, OMP_NUM_THREADS=str(threads)),
        )
    return run, process


def _wait_for_any(running: list[tuple]) -> tuple:
    while True:
        for run, process in running:
            if process.poll() is not None:
                return run, process
        time.sleep(0.1)


def _save_result(run: Run, command: list[str]) -> None:
    """Read the log of the newest training in a run's folder."""
    path = max(run.folder.glob('*/vis_data/scalars.json'))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    train = [row for row in rows if 'loss' in row]
    steps = max(row['step'] for row in train)
    seconds = sum(row['time'] for row in train) / len(train) * steps
    last = [row for row in rows if 'loss' not in row][-1]
    # Metrics have the name of their evaluator, COCO's or another.
    result = {name: value for name, value in last.items() if '/' in name}
    result.update(iterations=steps, seconds=round(seconds, 1), command=command)
    (run.folder / 'result.json').write_text(json.dumps(result))
