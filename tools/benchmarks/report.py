"""The report of a run: JSON, Markdown tables and plots of the growth series."""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use('Agg')

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator  # noqa: E402

HEADER = ('contender', 'median [quartiles]', 'ratio', 'peak memory', 'bandwidth', 'target')
VERDICTS = {True: '{:.3g}, met', False: '{:.3g}, **not met**', None: 'not measured'}


def write_json(report: dict, path: Path) -> None:
    """Write the report under another name first, so that a kill leaves the file before."""
    temporary = path.with_suffix('.tmp')
    temporary.write_text(json.dumps(report, indent=1) + '\n')
    temporary.replace(path)


def write_markdown(report: dict, path: Path) -> list[Path]:
    """Write the tables, and a plot for each growth series; return the paths of the plots."""
    lines = [
        f'# Speed on {report["device"]}',
        '',
        f'- {report["date"]}, {report["seconds"]:.0f} s: `{report["command"]}`',
        f'- {report["versions"]}; {report["threads"]} threads',
        f'- bandwidth of a copy: {report["bandwidth"] / 1e9:.1f} GB/s, read plus written',
        f'- {count_targets(report["results"])}',
        f'- cases of this run without a result: {len(report["remaining"])}',
    ]
    cases = [result for result in report['results'] if not result['point']]
    for group, results in groupby(cases, key=lambda result: result['group']):
        lines += ['', f'## {group}']
        for result in results:
            lines += ['', *case_lines(result)]
    series, plots = {}, []
    for result in report['results']:
        if result['point']:
            series.setdefault(result['point']['series'], []).append(result)
    for title, results in series.items():
        name = re.sub('[^a-z0-9]+', '-', title.split(',')[0].lower()).strip('-')
        plots.append(path.with_name(f'{path.stem}-{name}.png'))
        draw(title, results, plots[-1])
        lines += ['', f'## {title}', '', *series_lines(results)]
        lines += ['', f'![{title}]({plots[-1].name})']
    lines += ['', '## Environment', '', '```', report['environment'], '```']
    path.write_text('\n'.join(lines) + '\n')
    return plots


def count_targets(results: Iterable[dict]) -> str:
    met = [target['met'] for result in results for target in result['targets']]
    counts = map(met.count, (True, False, None))
    return 'targets: {} met, {} not met, {} not measured'.format(*counts)


def case_lines(result: dict) -> list[str]:
    """Return the Markdown table of a case, a row per contender."""
    lines = [f'**{result["title"]}**', '', table_row(HEADER), table_row(['---'] * len(HEADER))]
    for name, row in result['rows'].items():
        targets = [
            f'{target["text"]}: ' + VERDICTS[target['met']].format(target['measured'])
            for target in result['targets']
            if target['contender'] == name
        ]
        lines.append(table_row([name, *row_cells(row), '; '.join(targets)]))
    return lines


def row_cells(row: dict) -> list[str]:
    """Return time, ratio, memory and share of the bandwidth."""
    if 'failure' in row:
        return [f'failed: {row["failure"]}', '', '', '']
    times = row['median_ms'], *row['quartiles_ms']
    median, low, high = (f'{float(f"{value:.3g}"):,g}' for value in times)
    peak, share = row.get('peak_bytes'), row.get('bandwidth_share')
    return [
        f'{median} [{low}, {high}] ms',
        f'{row["ratio"]:.3g}x' if 'ratio' in row else '',
        '' if peak is None else f'{peak / 2**20:.4g} MiB',
        '' if share is None else f'{share:.0%}',
    ]


def table_row(cells: Sequence) -> str:
    # A bar in an error message would start another cell.
    return '| ' + ' | '.join(str(cell).replace('|', '\\|') for cell in cells) + ' |'


def series_lines(results: Sequence[dict]) -> list[str]:
    """Return the Markdown table of a series: a row per point, a column per contender."""
    header = [results[0]['point']['axis'], *results[0]['rows']]
    lines = [table_row(header), table_row(['---'] * len(header))]
    for result in results:
        cells = [', '.join(filter(None, row_cells(row)[0:3:2])) for row in result['rows'].values()]
        lines.append(table_row([f'{result["point"]["value"]:,}', *cells]))
    return lines


def draw(title: str, results: Sequence[dict], path: Path) -> None:
    """Draw time with quartiles, and peak memory, over the growing size."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), layout='constrained')
    for name in results[0]['rows']:
        rows = [dict(result['rows'][name], x=result['point']['value']) for result in results]
        rows = [row for row in rows if row.get('peak_bytes')]
        sizes, times = [row['x'] for row in rows], np.array([row['median_ms'] for row in rows])
        bars = np.abs(np.array([row['quartiles_ms'] for row in rows]).reshape(-1, 2).T - times)
        panels[0].errorbar(sizes, times, bars, marker='o', markersize=4, capsize=3, label=name)
        panels[1].plot(sizes, [row['peak_bytes'] / 2**20 for row in rows], 'o-', markersize=4)
    sizes = [result['point']['value'] for result in results]
    for panel, unit in zip(panels, ('ms', 'MiB of peak memory')):
        panel.set(xscale='log', yscale='log', xlabel=results[0]['point']['axis'], ylabel=unit)
        panel.set_xticks(sizes, [f'{size:,}' for size in sizes])
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=99))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f'{y:g}'))
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    figure.legend(loc='outside lower center', ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
