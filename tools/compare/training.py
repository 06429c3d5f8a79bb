"""Run the trainings of a comparison as subprocesses of tools/train.py and keep their results."""

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple, Optional

import torch

REPO = Path(__file__).resolve().parents[2]


class Experiment(NamedTuple):
    """A way of training that is compared with others; its training has two stages.

    Attributes:
        name: name in the table and the plot.
        first: config of the first stage, a path below configs/.
        second: config of the second stage, which starts from the weights of the first.
        percent: percentage of the images that keep their boxes; None for all images.
        options: options of the second stage, KEY=VALUE.
    """

    name: str
    first: str
    second: str
    percent: Optional[float] = None
    options: tuple[str, ...] = ()


class Run(NamedTuple):
    """One stage of an experiment with one seed.

    Attributes:
        experiment: the experiment.
        seed: seed of the weights, of the order of the images, and of the choice of boxes.
        config: config of this stage, a path below configs/.
        iterations: length of the training.
        folder: work directory.
        after: the run whose last checkpoint initializes this one.
    """

    experiment: Experiment
    seed: int
    config: str
    iterations: int
    folder: Path
    after: Optional['Run'] = None

    def settings(self) -> dict:
        """Return what determines the result: config, options, and the same of the first stage."""
        options = [
            f'randomness.seed={self.seed}',
            f'train_cfg.max_iters={self.iterations}',
            f'train_cfg.val_interval={self.iterations}',
            f'param_scheduler.1.end={self.iterations}',
        ]
        if self.experiment.percent is not None:
            options += [
                f'train_dataloader.dataset.percent={self.experiment.percent:g}',
                f'train_dataloader.dataset.seed={self.seed}',
            ]
        if self.after:
            options += self.experiment.options
        after = self.after.settings() if self.after else None
        return dict(config=self.config, options=options, after=after)

    def command(self) -> list[str]:
        """Return the command line of the training."""
        options = [
            *self.settings()['options'],
            f'default_hooks.checkpoint.interval={self.iterations}',
        ]
        if self.after:
            last = (self.after.folder / 'last_checkpoint').read_text()
            options.append(f'load_from={last.strip()}')
        tool = [sys.executable, '-W', 'ignore', 'tools/train.py', f'configs/{self.config}']
        return [*tool, '--work-dir', str(self.folder), '--cfg-options', *options]

    def result(self) -> Optional[dict]:
        """Return settings, values and circumstances; None if the run is unfinished."""
        path = self.folder / 'result.json'
        return json.loads(path.read_text()) if path.is_file() else None


class Records:
    """Results of finished runs in a file, one JSON line each.

    The file is independent of the work directories: a comparison continues on another machine.

    Args:
        path (Path): file to read, if it exists, and to append to.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._results = path, {}
        lines = path.read_text().splitlines() if path.is_file() else []
        for number, line in enumerate(lines, start=1):
            try:
                result = json.loads(line)
                self._results[_key(result['settings'])] = result
            except (ValueError, KeyError, TypeError):
                sys.exit(f'{path}:{number}: not the result of a run; remove the line')

    def __getitem__(self, run: Run) -> dict:
        return self._results[_key(run.settings())]

    def __contains__(self, run: Run) -> bool:
        return _key(run.settings()) in self._results

    def values(self) -> list[dict]:
        return list(self._results.values())

    def add(self, run: Run) -> None:
        """Append the result of a finished run, unless the file has it."""
        if run not in self:
            result = run.result()
            self._results[_key(run.settings())] = result
            with open(self.path, 'a') as file:
                file.write(f'{json.dumps(result)}\n')

    def missing(self, runs: list[Run]) -> list[Run]:
        """Return the runs without a record, each after the first stage that it needs."""
        missing = [run for run in runs if run not in self]
        return list(dict.fromkeys(stage for run in missing for stage in (run.after, run)))


def _key(settings: dict) -> str:
    return json.dumps(settings, sort_keys=True)


def make_runs(
    experiments: list[Experiment], seeds: list[int], iterations: tuple[int, int], folder: Path
) -> list[Run]:
    """Return the runs of the second stage, all experiments with the first seed first.

    Experiments with the same config and percentage in the first stage share its run.
    """
    runs = []
    for seed in seeds:
        for experiment in experiments:
            share = '' if experiment.percent is None else f'-{experiment.percent:g}'
            arm = re.sub('[^a-z]+', '-', experiment.name.lower())
            names = (f'{name}{share}-seed{seed}' for name in (Path(experiment.first).stem, arm))
            first, second = (
                folder / stage / name for stage, name in zip(('first', 'second'), names)
            )
            # The experiment of a first stage has no name and no second stage of its own.
            start = Run(
                Experiment('first stage', experiment.first, '', experiment.percent),
                seed,
                experiment.first,
                iterations[0],
                first,
            )
            runs.append(Run(experiment, seed, experiment.second, iterations[1], second, start))
    return runs


def train(runs: list[Run], jobs: int, when_done: Callable[[Run], None] = lambda run: None) -> None:
    """Train the runs whose folders have no result, at most `jobs` at a time.

    A run starts as soon as its first stage is finished, in the order given. The process ends with
    one line if a training fails, or if the result in a folder belongs to other settings.

    Args:
        runs (list[Run]): runs; each first stage in front of the runs that need it.
        jobs (int): number of simultaneous trainings.
        when_done (Callable): called with each run that has a result.
    """
    waiting = []
    for run in runs:
        result = run.result()
        if result is None:
            waiting.append(run)
        elif result['settings'] != run.settings():
            sys.exit(
                f'{run.folder}: trained with other settings, {json.dumps(result["settings"])}; '
                'remove the folder or change --work-dir'
            )
        else:
            when_done(run)
    running = []
    try:
        while waiting or running:
            ready = [
                run for run in waiting if run.after not in [*waiting, *(r for r, _ in running)]
            ]
            for run in ready[: jobs - len(running)]:
                waiting.remove(run)
                running.append(_start(run, jobs))
            run, process = _wait_for_any(running)
            running.remove((run, process))
            if process.returncode:
                log = (run.folder / 'log.txt').read_text().strip().splitlines()
                sys.exit(f'{run.folder}: training failed: {log[-1] if log else ""}')
            _save_result(run, jobs)
            when_done(run)
            print(f'{run.folder}: {json.dumps(run.result()["values"])}', flush=True)
    finally:
        for _, process in running:
            process.terminate()


def _start(run: Run, jobs: int) -> tuple[Run, subprocess.Popen]:
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    run.folder.mkdir(parents=True, exist_ok=True)
    with open(run.folder / 'log.txt', 'w') as log:
        process = subprocess.Popen(
            run.command(),
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


def _save_result(run: Run, jobs: int) -> None:
    """Write result.json from the newest log in the folder of a run."""
    machine = f'{len(os.sched_getaffinity(0))} CPU cores ({platform.machine()})'
    if torch.cuda.is_available():
        machine = torch.cuda.get_device_name()
    result = dict(
        name=run.experiment.name,
        percent=run.experiment.percent,
        seed=run.seed,
        settings=run.settings(),
        values=read_values(max(run.folder.glob('*/vis_data/scalars.json'))),
        jobs=jobs,
        machine=machine,
        torch=torch.__version__,
        date=str(date.today()),
    )
    (run.folder / 'result.json').write_text(json.dumps(result))


def read_values(path: Path) -> dict[str, float]:
    """Read a log: last metrics, last precision and recall of pseudo boxes, seconds, iterations."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    train = [row for row in rows if 'loss' in row]
    # The names of metrics begin with that of their evaluator, such as coco/. MeanTeacherHook
    # writes rows of pseudo_boxes/CLASS.
    last = [row for row in rows if 'loss' not in row and not _is_pseudo_row(row)][-1]
    values = {name: value for name, value in last.items() if '/' in name}
    for name in ('pseudo_precision', 'pseudo_recall'):
        logged = [row[name] for row in train if name in row]
        if logged:
            values[name] = logged[-1]
    steps = max(row['step'] for row in train)
    seconds = sum(row['time'] for row in train) / len(train) * steps
    return dict(values, seconds=round(seconds, 1), iterations=steps)


def _is_pseudo_row(row: dict) -> bool:
    return any(name.startswith('pseudo_boxes/') for name in row)
