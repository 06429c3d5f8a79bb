"""Collect the results of a comparison; write a table and draw a plot."""

import os
import platform
from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from matplotlib.figure import Figure
from training import Experiment, Run

NAMES = {
    'coco/bbox_mAP': 'AP',
    'coco/bbox_mAP_50': 'AP50',
    'pascal_voc/mAP': 'mAP',
    'image/mAP': 'image-level mAP',
}
# Values of each metric, one per seed, by experiment.
Results = dict[Experiment, dict[str, np.ndarray]]


def collect(runs: list[Run]) -> Results:
    """Read the results of runs and group them by experiment."""
    found = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for name, value in run.result().items():
            if name != 'command':
                found[run.experiment][name].append(value)
    return {
        experiment: {name: np.array(values) for name, values in metrics.items()}
        for experiment, metrics in found.items()
    }


def describe_runs(runs: list[Run], seeds: list[int], jobs: int) -> str:
    """Return a sentence on the time and the machine of the trainings."""
    hours = sum(run.result()['seconds'] for run in runs) / 3600
    machine = f'{len(os.sched_getaffinity(0))} CPU cores ({platform.machine()})'
    if torch.cuda.is_available():
        machine = torch.cuda.get_device_name()
    return (
        f'{len(runs)} runs, seeds {", ".join(map(str, seeds))}; {hours:.1f} hours of training, '
        f'{jobs} at a time, on {machine}; {date.today()}, torch {torch.__version__}.'
    )


def format_values(values: Optional[np.ndarray], digits: int) -> str:
    """Format the mean over the seeds, followed by their range."""
    if values is None:
        return ''
    mean, low, high = (f'{f(values):.{digits}f}' for f in (np.mean, np.min, np.max))
    return mean if len(values) == 1 else f'{mean} ({low} to {high})'


def write_markdown(heads: list[str], rows: list[list[str]], path: Path, title: str) -> None:
    """Write a Markdown table below a title."""
    lines = [title, '', f'| {" | ".join(heads)} |', '|---' * len(heads) + '|']
    lines += [f'| {" | ".join(cells)} |' for cells in rows]
    path.write_text('\n'.join(lines) + '\n')


def gap_closed(results: Results, experiment: Experiment, metric: str) -> float:
    """Return the share of the gap between 'boxes only' and all boxes that is closed.

    NaN if there is no gap, or if one of the two experiments is missing.
    """
    only = [e for e in results if e.percent == experiment.percent and e.name == 'boxes only']
    every = [e for e in results if e.percent is None]
    if experiment.percent is None or not only or not every or experiment in only:
        return float('nan')
    low, high, value = (results[e][metric].mean() for e in (only[0], every[0], experiment))
    return (value - low) / (high - low) if high > low else float('nan')


def write_table(results: Results, metrics: list[str], path: Path, title: str) -> None:
    """Write a table with a row for each experiment."""
    heads = ['boxes', 'training', *(NAMES[name] for name in metrics)]
    heads += ['share of the gap', 'minutes of the second stage']
    rows = []
    for experiment, values in results.items():
        share = 'all' if experiment.percent is None else f'{experiment.percent:g} %'
        gap = gap_closed(results, experiment, metrics[0])
        rows.append(
            [
                share,
                experiment.name,
                *(format_values(values.get(name), 3) for name in metrics),
                '' if np.isnan(gap) else f'{100 * gap:.0f} %',
                f'{values["seconds"].mean() / 60:.1f}',
            ]
        )
    write_markdown(heads, rows, path, title)


def draw(results: Results, metric: str, path: Path) -> None:
    """Draw a metric over the share of boxes: a dot per seed and a line through the means."""
    figure = Figure(figsize=(6.4, 4.2), layout='tight')
    axes = figure.subplots()
    positions = _positions(results)
    for name in dict.fromkeys(experiment.name for experiment in results):
        group = [experiment for experiment in results if experiment.name == name]
        (line,) = axes.plot(
            [positions[experiment] for experiment in group],
            [results[experiment][metric].mean() for experiment in group],
            marker='_',
            markersize=14,
            label=name,
        )
        for experiment in group:
            values = results[experiment][metric]
            x = [positions[experiment]] * len(values)
            axes.plot(x, values, 'o', markersize=4, color=line.get_color())
    for experiment in results:
        if experiment.percent is None:
            mean = results[experiment][metric].mean()
            axes.axhline(mean, color='grey', linewidth=0.8, linestyle='--')
    shares = sorted({_share(experiment) for experiment in results})
    axes.set(
        xscale='log',
        xlabel='images with boxes (%); the others have labels',
        ylabel=f'{NAMES[metric]} on the validation set',
        xticks=shares,
        xticklabels=[f'{share:g}' for share in shares],
        ylim=(0, 1.15 * max(values[metric].max() for values in results.values())),
    )
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def _share(experiment: Experiment) -> float:
    return 100 if experiment.percent is None else experiment.percent


def _positions(experiments: Iterable[Experiment]) -> dict[Experiment, float]:
    """Return an x value for each experiment; equal shares are drawn side by side."""
    by_share = defaultdict(list)
    for experiment in experiments:
        by_share[_share(experiment)].append(experiment)
    return {
        experiment: share * 1.04 ** (index - (len(group) - 1) / 2)
        for share, group in by_share.items()
        for index, experiment in enumerate(group)
    }
