"""Growth, drawn with both axes logarithmic."""
from pathlib import Path

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter  # noqa: E402


def draw(series: dict, path: Path) -> None:
    """Draw medians, and quartiles as bars; each curve has its name in a legend
    beside the plot, where it covers nothing.

    Args:
        series (dict): ``title``, ``over``, ``unit`` and ``curves``, by name
            ``points`` of ``x``, ``median`` and ``quartiles``.
        path (Path): of the PNG.
    """
    figure, axes = plt.subplots(figsize=(8.6, 4.2), layout='constrained')
    places = set()
    for name, curve in series['curves'].items():
        # A logarithm has no place for others: memory that did not grow.
        points = [one for one in curve['points'] if one['median'] > 0]
        places.update(point['x'] for point in points)
        medians = [point['median'] for point in points]
        bars = [[max(0, side * (point['quartiles'][end] - point['median']))
                 for point in points] for end, side in ((0, -1), (1, 1))]
        axes.errorbar([point['x'] for point in points], medians, yerr=bars,
                      marker='o', markersize=4, capsize=3, label=name)
    axes.set(xlabel=series['over'], ylabel=series['unit'])
    if places:
        axes.set(xscale='log', yscale='log')
    else:
        axes.text(0.5, 0.5, 'nothing was measured', ha='center')
    axes.set_xticks(sorted(places), [f'{place:,}' for place in sorted(places)])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f'{y:,g}'))
    axes.set_title(series['title'], fontsize=10, loc='left')
    axes.grid(alpha=0.3)
    figure.legend(loc='outside right upper', frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
