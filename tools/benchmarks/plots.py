"""Growth, drawn with both axes logarithmic."""

from collections.abc import Iterable
from math import floor, log10
from pathlib import Path

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator  # noqa: E402

STEPS = 1, 2, 5, 10  # of the ticks, in each decade


def draw(series: dict, path: Path) -> None:
    """Draw medians, and quartiles as bars; each curve has its name in a legend
    beside the plot, where it covers nothing.

    Args:
        series (dict): ``title``, ``over``, ``unit`` and ``curves``, by name
            ``points`` of ``x``, ``median`` and ``quartiles``.
        path (Path): of the PNG.
    """
    figure, axes = plt.subplots(figsize=(8.6, 4.2), layout='constrained')
    places, heights = set(), []
    for name, curve in series['curves'].items():
        # A logarithm has no place for others: memory that did not grow.
        points = [one for one in curve['points'] if one['median'] > 0]
        places.update(point['x'] for point in points)
        heights += [end for point in points for end in (point['median'], *point['quartiles'])]
        _draw_curve(axes, name, points)
    axes.set(xlabel=series['over'], ylabel=series['unit'])
    axes.set_title(series['title'], fontsize=10, loc='left')
    if places:
        _scale(axes, sorted(places), heights)
        figure.legend(loc='outside right upper', frameon=False, fontsize=9)
    else:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, 'nothing was measured', ha='center', transform=axes.transAxes)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_curve(axes: plt.Axes, name: str, points: Iterable[dict]) -> None:
    bars = [
        [max(0, side * (point['quartiles'][end] - point['median'])) for point in points]
        for end, side in ((0, -1), (1, 1))
    ]
    axes.errorbar(
        [point['x'] for point in points],
        [point['median'] for point in points],
        yerr=bars,
        marker='o',
        markersize=4,
        capsize=3,
        label=name,
    )


def _scale(axes: plt.Axes, places: list, heights: list) -> None:
    """Logarithmic axes, with the points below and plain numbers aside."""
    axes.set(xscale='log', yscale='log', ylim=_limits(heights))
    axes.set_xticks(places, [f'{place:,}' for place in places])
    axes.yaxis.set_major_locator(LogLocator(subs=STEPS[:-1], numticks=99))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f'{y:,.0f}' if y >= 1 else f'{y:g}'))
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def _limits(heights: Iterable[float]) -> tuple[float, float]:
    """The ticks below and above all values, so that two at least are there."""

    def ticks(value: float) -> list:
        decade = 10.0 ** floor(log10(value))
        return [step * decade for step in STEPS]

    low, high = min(one for one in heights if one > 0), max(heights)
    return (
        max(tick for tick in ticks(low) if tick <= low * 1.0001) / 1.1,
        min(tick for tick in ticks(high) if tick >= high * 0.9999) * 1.1,
    )
