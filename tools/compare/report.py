"""A table and a plot of what a comparison has shown."""

import os
import platform
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from runs import Arm, Run  # noqa: E402

NAMES = {
    'coco/bbox_mAP': 'AP',
    'coco/bbox_mAP_50': 'AP50',
    'pascal_voc/mAP': 'mAP',
    'image/mAP': 'image-level mAP',
}


def collect(runs: list[Run]) -> dict[Arm, dict[str, np.ndarray]]:
    """Values of each metric, one a seed, of each arm."""
    found = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for name, value in run.result().items():
            if name != 'command':
                found[run.arm][name].append(value)
    return {
        arm: {name: np.array(values) for name, values in one.items()} for arm, one in found.items()
    }


def device() -> str:
    """What was trained on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'{len(os.sched_getaffinity(0))} CPU cores ({platform.machine()})'


def recovered(arms: dict, arm: Arm, metric: str) -> float:
    """Share of the gap between boxes alone and all boxes that an arm closes.

    NaN where there is no gap, or no such arms to compare with.
    """
    alone = [a for a in arms if a.percent == arm.percent and a.name == 'boxes only']
    whole = [a for a in arms if a.percent is None]
    if arm.percent is None or not alone or not whole or arm in alone:
        return float('nan')
    low, high, here = (arms[a][metric].mean() for a in (alone[0], whole[0], arm))
    return (here - low) / (high - low) if high > low else float('nan')


def write_table(arms: dict, metrics: list[str], path: Path, title: str) -> None:
    """Write a Markdown table, a line for each arm."""
    heads = [
        'boxes',
        'training',
        *(NAMES[name] for name in metrics),
        'of the gap',
        'minutes of the second stage',
    ]
    lines = [title, '', f'| {" | ".join(heads)} |', '|---' * len(heads) + '|']
    for arm, values in arms.items():
        share = 'all' if arm.percent is None else f'{arm.percent:g} %'
        cells = [_cell(values.get(name)) for name in metrics]
        gap = recovered(arms, arm, metrics[0])
        cells.append('' if np.isnan(gap) else f'{100 * gap:.0f} %')
        cells.append(f'{values["seconds"].mean() / 60:.1f}')
        lines.append(f'| {" | ".join([share, arm.name, *cells])} |')
    path.write_text('\n'.join(lines) + '\n')


def _cell(values: np.ndarray) -> str:
    """Mean, and the range over the seeds."""
    if values is None:
        return ''
    if len(values) == 1:
        return f'{values[0]:.3f}'
    return f'{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})'


def draw(arms: dict, metric: str, path: Path) -> None:
    """Draw the metric over the share of boxes: seeds, and their means."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    places = _places(arms)
    for name in dict.fromkeys(arm.name for arm in arms):
        group = [arm for arm in arms if arm.name == name]
        (line,) = axes.plot(
            [places[arm] for arm in group],
            [arms[arm][metric].mean() for arm in group],
            marker='_',
            markersize=14,
            label=name,
        )
        for arm in group:
            values = arms[arm][metric]
            axes.plot(
                [places[arm]] * len(values), values, 'o', markersize=4, color=line.get_color()
            )
    whole = [arm for arm in arms if arm.percent is None]
    if whole:
        axes.axhline(arms[whole[0]][metric].mean(), color='grey', linewidth=0.8, linestyle='--')
    shares = sorted({100 if arm.percent is None else arm.percent for arm in arms})
    axes.set(
        xscale='log',
        xlabel='images with boxes (%); the others have labels',
        ylabel=f'{NAMES[metric]} on the validation set',
        xticks=shares,
        xticklabels=[f'{share:g}' for share in shares],
    )
    axes.minorticks_off()
    axes.set_ylim(0, 1.15 * max(values[metric].max() for values in arms.values()))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _places(arms: Iterable[Arm]) -> dict[Arm, float]:
    """Where to draw each arm: its share of boxes in percent, and beside it
    where several have the same."""
    by_share = defaultdict(list)
    for arm in arms:
        by_share[100 if arm.percent is None else arm.percent].append(arm)
    return {
        arm: share * 1.04 ** (place - (len(group) - 1) / 2)
        for share, group in by_share.items()
        for place, arm in enumerate(group)
    }
