"""The report: what was measured, as JSON and as Markdown."""

import json
from pathlib import Path

from targets import LIMIT

HEADS = (
    'contender',
    'median [quartiles]',
    'times the first',
    'peak memory',
    'of the limit',
    'target',
)
BUSY = 0.1  # cores, on average


def write_json(report: dict, path: Path) -> None:
    path.write_text(json.dumps(report, indent=1) + '\n')


def write_markdown(report: dict, path: Path, plots: list[Path]) -> None:
    """The surroundings, a table for each piece of work, and the plots."""
    lines = [f'# Speed on {report["surroundings"]["device"]}', '', *_head(report), '']
    for group, results in report['results'].items():
        lines += [f'## {group}', '']
        for result in results:
            lines += [*case_lines(result), '']
    if report['growth']:
        lines += ['## growth', '']
    for series, plot in zip(report['growth'], plots):
        lines += [*series_lines(series), '', f'![{series["title"]}]({plot.name})', '']
    path.write_text('\n'.join(lines).rstrip() + '\n')


def _head(report: dict) -> list[str]:
    here = report['surroundings']
    rows = [f'- {key}: {_plain(value)}' for key, value in here.items()]
    for when in ('before', 'after'):
        clocks = '; '.join(
            f'{key} {_plain(value)}' for key, value in report['clocks'][when].items()
        )
        rows.append(f'- clocks {when}: {clocks}')
    others = report['cores_of_others']
    rows.append(
        f'- cores busy with other work meanwhile: {others:.2f}'
        + (': **the machine was not quiet**' if others > BUSY else '')
    )
    rows.append(f'- a copy: {report["copy_bytes_per_second"] / 1e9:.1f} GB/s, read and written')
    parts = ', '.join(
        f'{group} {seconds:.0f}' for group, seconds in report['group_seconds'].items()
    )
    rows.append(f'- took {report["seconds"]:.0f} s ({parts}): `{report["command"]}`')
    if report['to_come']:
        rows.append('- **not measured yet**: ' + ', '.join(report['to_come']))
    rows.append(f'- {count_targets(report)}')
    if here['torchvision'].startswith('does not'):
        rows.append(f'- without rows of torchvision, which {here["torchvision"]}')
    return rows


def count_targets(report: dict) -> str:
    """How many targets are met, in a line."""
    met = [
        target['met']
        for results in report['results'].values()
        for result in results
        for target in result.get('targets', ())
    ]
    return (
        f'targets: {met.count(True)} met, {met.count(False)} not met, '
        f'{met.count(None)} not measured'
    )


def case_lines(result: dict) -> list[str]:
    """A piece of work: its name, and a table with a row a contender."""
    if 'failure' in result:
        return [f'**{result["work"]}**: not measured: {result["failure"]}']
    lines = [f'**{result["work"]}**', '', _row(HEADS), _row(['---'] * len(HEADS))]
    for name, row in result['rows'].items():
        verdicts = [verdict(target) for target in result['targets'] if target['contender'] == name]
        lines.append(_row([name, *_cells(row), '; '.join(verdicts)]))
    lost = [target for target in result['targets'] if target['contender'] not in result['rows']]
    return lines + [f'\n{target["contender"]}: {verdict(target)}' for target in lost]


def _cells(row: dict) -> list[str]:
    if 'failure' in row:
        return [f'failed: {row["failure"]}', '', '', '']
    low, high = row['quartiles_ms']
    times = row.get('times_the_first')
    share = row.get('limit_share')
    return [
        f'{milliseconds(row["median_ms"])} [{milliseconds(low)}, {milliseconds(high)}] ms',
        '' if times is None else f'{times:.3g}x',
        _peak(row),
        '' if share is None else f'{100 * share:.0f} %',
    ]


def _peak(row: dict) -> str:
    if 'peak_failure' in row:
        return f'failed: {row["peak_failure"]}'
    return f'{row["peak_bytes"] / 2**20:.1f} MiB' if 'peak_bytes' in row else ''


def verdict(target: dict) -> str:
    """A target, what was found, and whether that is enough."""
    if target['met'] is None:
        return f'{target["text"]}: not measured'
    found = (
        f'{100 * target["found"]:.0f} %'
        if target['quantity'] == LIMIT
        else f'{target["found"]:.3g}x'
    )
    if not target.get('sure', True):
        low, high = target['between']
        found += f' (by the quartiles {low:.3g}x to {high:.3g}x)'
    return f'{target["text"]}: {found}, ' + ('met' if target['met'] else '**not met**')


def series_lines(series: dict) -> list[str]:
    """Growth: a table with a line a point, a column a contender."""
    names = list(series['curves'])
    places = sorted(
        {point['x'] for curve in series['curves'].values() for point in curve['points']}
    )
    lines = [
        f'**{series["title"]}**, {series["unit"]}',
        '',
        _row([series['over'], *names]),
        _row(['---'] * (1 + len(names))),
    ]
    for place in places:
        values = []
        for curve in series['curves'].values():
            found = [point for point in curve['points'] if point['x'] == place]
            values.append(f'{found[0]["median"]:.4g}' if found else '')
        lines.append(_row([f'{place:,}', *values]))
    return lines + [
        f'\n{name}: {note}' for name, curve in series['curves'].items() for note in curve['notes']
    ]


def milliseconds(value: float) -> str:
    return f'{value:.3g}' if value < 1000 else f'{value:.0f}'


def _plain(value) -> str:
    if isinstance(value, float):
        return f'{value:.2f}'
    if isinstance(value, (list, tuple)):
        return ', '.join(map(_plain, value))
    return str(value)


def _row(cells) -> str:
    # A bar in an error message would begin another cell.
    return '| ' + ' | '.join(str(one).replace('|', '\\|') for one in cells) + ' |'
