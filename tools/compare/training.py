"""Run the trainings of a comparison as subprocesses of tools/train.py and keep their results."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, Optional

REPO = Path(__file__).resolve().parents[2]


class Experiment(NamedTuple):
    """A way of training that is compared with others; its training has two stages.

    Attributes:
        name: name in the table and the plot.
        first: config of the first stage, a path below configs/.
        second: config of the second stage, which starts from the weights of the first.
        percent: percentage of the images that keep their boxes; None for all images.
    """

    name: str
    first: str
    second: str
    percent: Optional[float] = None


class Run(NamedTuple):
    """One stage of an experiment with one seed.

    Attributes:
        experiment: the experiment.
        seed: seed of the weights, of the order of the images, and of the choice of boxes.
        config: config of this stage, a path below configs/.
        folder: work directory.
        after: the run whose last checkpoint initializes this one.
    """

    experiment: Experiment
    seed: int
    config: str
    folder: Path
    after: Optional['Run'] = None

    def command(self, iterations: int) -> list[str]:
        """Return the command line of the training."""
        options = [
            f'randomness.seed={self.seed}',
            f'train_cfg.max_iters={iterations}',
            f'train_cfg.val_interval={iterations}',
            f'param_scheduler.1.end={iterations}',
        ]
        if self.experiment.percent is not None:
            options += [
                f'train_dataloader.dataset.percent={self.experiment.percent}',
                f'train_dataloader.dataset.seed={self.seed}',
            ]
        if self.after:
            last = (self.after.folder / 'last_checkpoint').read_text()
            options.append(f'load_from={last.strip()}')
        tool = [sys.executable, '-W', 'ignore', 'tools/train.py', f'configs/{self.config}']
        return [*tool, '--work-dir', str(self.folder), '--cfg-options', *options]

    def result(self) -> Optional[dict]:
        """Return metrics, seconds of training and command; None if the run is unfinished."""
        path = self.folder / 'result.json'
        return json.loads(path.read_text()) if path.is_file() else None


def make_runs(
    experiments: list[Experiment], seeds: list[int], folder: Path
) -> tuple[list[Run], list[Run]]:
    """Return the runs of both stages; experiments with the same first stage share its run."""
    firsts, seconds = {}, []
    for seed in seeds:
        for experiment in experiments:
            share = '' if experiment.percent is None else f'-{experiment.percent:g}'
            first, second = (
                f'{Path(config).stem}{share}-seed{seed}'
                for config in (experiment.first, experiment.second)
            )
            start = firsts.setdefault(
                first, Run(experiment, seed, experiment.first, folder / 'first' / first)
            )
            seconds.append(
                Run(experiment, seed, experiment.second, folder / 'second' / second, start)
            )
    return list(firsts.values()), seconds


def train(runs: list[Run], iterations: int, jobs: int) -> None:
    """Train the runs without a result, at most `jobs` at a time.

    The process ends with one line if a training fails, or if a result belongs to other
    options.
    """
    waiting = []
    for run in runs:
        result = run.result()
        if result is None:
            waiting.append(run)
        elif result['command'] != run.command(iterations)[3:]:
            sys.exit(
                f'{run.folder}: trained with other options, {" ".join(result["command"])}; '
                'remove the folder or change --work-dir'
            )
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    running = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(waiting.pop(0), iterations, threads))
            run, process = _wait_for_any(running)
            running.remove((run, process))
            if process.returncode:
                log = (run.folder / 'log.txt').read_text().strip().splitlines()
                sys.exit(f'{run.folder}: training failed: {log[-1] if log else ""}')
            _save_result(run, run.command(iterations)[3:])
            print(f'{run.folder}: {json.dumps(run.result())}', flush=True)
    finally:
        for _, process in running:
            process.terminate()


def _start(run: Run, iterations: int, threads: int) -> tuple[Run, subprocess.Popen]:
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


def _wait_for_any(running: list[tuple]) -> tuple[Run, subprocess.Popen]:
    while True:
        for run, process in running:
            if process.poll() is not None:
                return run, process
        time.sleep(0.1)


def _save_result(run: Run, command: list[str]) -> None:
    """Write result.json from the newest log in the folder of a run."""
    path = max(run.folder.glob('*/vis_data/scalars.json'))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    train = [row for row in rows if 'loss' in row]
    steps = max(row['step'] for row in train)
    seconds = sum(row['time'] for row in train) / len(train) * steps
    last = [row for row in rows if 'loss' not in row][-1]
    # The names of metrics begin with that of their evaluator, such as coco/.
    result = {name: value for name, value in last.items() if '/' in name}
    result.update(iterations=steps, seconds=round(seconds, 1), command=command)
    (run.folder / 'result.json').write_text(json.dumps(result))
