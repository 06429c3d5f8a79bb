"""Collect the results of a comparison; write a table and draw a plot."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from training import Experiment

NAMES = {
    'coco/bbox_mAP': 'AP',
    'coco/bbox_mAP_50': 'AP50',
    'pascal_voc/mAP': 'mAP',
    'image/mAP': 'image-level mAP',
    'pseudo_precision': 'pseudo-box precision',
    'pseudo_recall': 'pseudo-box recall',
}
# Okabe and Ito's palette, which colour-blind people can tell apart.
COLOURS = ('#000000', '#E69F00', '#0072B2', '#009E73', '#D55E00', '#CC79A7', '#56B4E9')
MARKERS = 'osD^vP*'
# Values of each metric, one per seed, by experiment.
Results = dict[Experiment, dict[str, np.ndarray]]


def collect(results: Iterable[tuple[Experiment, dict]]) -> Results:
    """Group the results of runs by experiment."""
    found = defaultdict(lambda: defaultdict(list))
    for experiment, result in results:
        for name, value in result['values'].items():
            found[experiment][name].append(value)
    return {
        experiment: {name: np.array(values) for name, values in metrics.items()}
        for experiment, metrics in found.items()
    }


def describe_runs(results: list[dict]) -> str:
    """Return a sentence on the time and the machine of the trainings."""
    hours = sum(result['values']['seconds'] for result in results) / 3600
    seeds, jobs, machines, versions = (
        ' or '.join(str(value) for value in sorted({result[key] for result in results}))
        for key in ('seed', 'jobs', 'machine', 'torch')
    )
    seeds = f'seeds {seeds.replace(" or ", ", ")}' if ' or ' in seeds else f'seed {seeds}'
    days = sorted({result['date'] for result in results})
    return (
        f'{len(results)} runs, {seeds}; {hours:.1f} hours of training, '
        f'{jobs} at a time, on {machines}; {" to ".join(dict.fromkeys([days[0], days[-1]]))}, '
        f'torch {versions}.'
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

    NaN if the gap is not positive, or if one of the two experiments is missing.
    """
    only = [e for e in results if e.percent == experiment.percent and e.name == 'boxes only']
    every = [e for e in results if e.percent is None]
    if experiment.percent is None or not only or not every or experiment in only:
        return float('nan')
    low, high, value = (results[e][metric].mean() for e in (only[0], every[0], experiment))
    return (value - low) / (high - low) if high > low else float('nan')


def write_table(results: Results, metrics: list[str], path: Path, title: str) -> None:
    """Write a table with a row for each experiment, and a column for each metric that occurs."""
    metrics = [name for name in metrics if any(name in values for values in results.values())]
    heads = ['boxes', 'training', *(NAMES[name] for name in metrics)]
    heads += ['share of the gap', 'minutes of the second stage']
    seeds = max(len(values['seconds']) for values in results.values())
    rows = []
    for experiment, values in results.items():
        share = 'all' if experiment.percent is None else f'{experiment.percent:g} %'
        gap = gap_closed(results, experiment, metrics[0])
        count = len(values['seconds'])
        rows.append(
            [
                share,
                experiment.name + ('' if count == seeds else f' ({count} of {seeds} seeds)'),
                *(format_values(values.get(name), 3) for name in metrics),
                '' if np.isnan(gap) else f'{100 * gap:.0f} %',
                f'{values["seconds"].mean() / 60:.1f}',
            ]
        )
    write_markdown(heads, rows, path, title)


def draw(results: Results, metric: str, path: Path) -> None:
    """Draw a metric over the share of boxes: a dot per seed, and a line through the means.

    The experiment with all boxes is a horizontal line, with its dots on the right border.
    """
    figure = Figure(figsize=(8, 4.6), layout='constrained')
    axes = figure.subplots()
    positions = _positions(experiment for experiment in results if experiment.percent)
    shares = sorted({experiment.percent for experiment in positions})
    right = 1.3 * shares[-1] if shares else 100
    ends = {}
    for number, name in enumerate(dict.fromkeys(experiment.name for experiment in results)):
        style = dict(color=COLOURS[number % 7], marker=MARKERS[number % 7])
        group = {e: values[metric] for e, values in results.items() if e.name == name}
        means = [values.mean() for values in group.values()]
        x = [positions.get(experiment, right) for experiment in group]
        if x == [right]:
            axes.axhline(means[-1], color=style['color'], linewidth=1.2, linestyle='--')
        else:
            axes.plot(x, means, color=style['color'], linewidth=1.5)
        for place, values in zip(x, group.values()):
            dots = dict(linestyle='', markersize=5, clip_on=False, zorder=3, **style)
            axes.plot([place] * len(values), values, **dots)
        ends[name] = x[-1], means[-1], style['color']
    axes.set(
        xscale='log',
        xlabel='images with boxes (%)',
        ylabel=f'{NAMES[metric]} on the validation set',
        xticks=shares,
        xticklabels=[f'{share:g}' for share in shares],
        xlim=(shares[0] / 1.3 if shares else 1, right),
        ylim=(0, 1.1 * max(values[metric].max() for values in results.values())),
    )
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    _label_ends(axes, ends)
    figure.savefig(path, dpi=110)


def _label_ends(axes: Axes, ends: dict[str, tuple[float, float, str]]) -> None:
    """Write each name to the right of the plot, near its last mean and clear of the others."""
    line = 0.055 * axes.get_ylim()[1]
    names = sorted(ends, key=lambda name: ends[name][1])
    heights = np.array([ends[name][1] for name in names])
    for _ in range(200):
        overlap = np.maximum(0, line - np.diff(heights)) / 2
        heights[:-1] -= overlap
        heights[1:] += overlap
    for name, height in zip(names, heights):
        x, value, colour = ends[name]
        axes.annotate(
            name,
            xy=(x, value),
            xytext=(1.03, height),
            textcoords=axes.get_yaxis_transform(),
            color=colour,
            va='center',
            arrowprops=dict(arrowstyle='-', color=colour, linewidth=0.6, shrinkA=1, shrinkB=0),
            annotation_clip=False,
        )


def _positions(experiments: Iterable[Experiment]) -> dict[Experiment, float]:
    """Return an x value for each experiment; equal shares are drawn side by side."""
    by_share = defaultdict(list)
    for experiment in experiments:
        by_share[experiment.percent].append(experiment)
    return {
        experiment: share * 1.04 ** (index - (len(group) - 1) / 2)
        for share, group in by_share.items()
        for index, experiment in enumerate(group)
    }
