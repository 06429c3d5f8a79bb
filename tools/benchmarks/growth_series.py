"""How time grows: one curve a contender, over a size."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Callable

import torch
from contest import Call, Setting
from operator_case import OperatorCase
from timing import Failure, failure, measure


@dataclass
class TimeSeries:
    """Times of contenders over a size.

    Attributes:
        key: of the plot's file.
        title: what is done, as plot and table have it.
        over: what the sizes are, with their unit.
        points: the sizes, in order.
        curves: by name, a function from a size to the call to be timed.
        power: of the size, with which the time grows.
        fixed: curves whose time hardly depends on the size.
        seconds: what would take longer a point is left out, and said to be.
    """

    key: str
    title: str
    over: str
    points: Sequence[int]
    curves: dict[str, Callable[[int], Call]]
    power: int = 1
    fixed: Collection[str] = ()
    seconds: float = float('inf')

    def run(self, setting: Setting) -> Iterator[dict]:
        """Measure from small to large; a curve that fails ends there."""
        curves = {name: dict(points=[], notes=[]) for name in self.curves}
        ended = set()
        for place in self.points:
            calls = {}
            for name in self.curves:
                if name in ended:
                    continue
                note = self._too_long(name, curves[name], place, setting)
                try:
                    if not note:
                        torch.manual_seed(0)
                        calls[name] = self.curves[name](place)
                except Exception as error:
                    note = f'at {place:,}: {failure(error).reason}'
                if note:
                    ended.add(name)
                    curves[name]['notes'].append(note)
            ended.update(_add_times(curves, calls, place, setting))
        yield dict(key=self.key, title=self.title, over=self.over, unit='ms', curves=curves)

    def _too_long(self, name: str, curve: dict, place: int, setting: Setting) -> str:
        """Why a point is left out, if its time as foreseen is too long."""
        if not curve['points']:
            return ''
        # As much for each step of the size as the last one took; of one point
        # alone, as if there were no fixed cost.
        (x, y), *before = [
            (point['x'] ** self.power, point['median'] * 1e-3) for point in curve['points'][:-3:-1]
        ]
        if name in self.fixed:
            before = [(0, y)]
        slope = (y - before[0][1]) / (x - before[0][0]) if before else y / x
        foreseen = y + max(0, slope) * (place**self.power - x)
        if foreseen * (setting.runs + 1) <= self.seconds:
            return ''
        return f'left out from {place:,} on, where a call would take about {foreseen:.1f} s'


def _add_times(
    curves: dict[str, dict], calls: dict[str, Call], place: int, setting: Setting
) -> list[str]:
    """Time calls, and add what was found; returns the names that failed."""
    failed = []
    for name, times in measure(calls, setting.device, setting.runs).items():
        if isinstance(times, Failure):
            curves[name]['notes'].append(f'at {place:,}: {times.reason}')
            failed.append(name)
        else:
            curves[name]['points'].append(
                dict(
                    x=place, median=times.median, quartiles=times.quartiles, runs=len(times.values)
                )
            )
    return failed


@dataclass
class CaseSeries:
    """Times of operators over a size, which are checked at each.

    Attributes:
        key, title, over: as in :class:`TimeSeries`.
        cases: by size, in order.
    """

    key: str
    title: str
    over: str
    cases: dict[int, OperatorCase]

    def run(self, setting: Setting) -> Iterator[dict]:
        curves = {}
        for place, case in self.cases.items():
            for name, row in case.run(setting)['rows'].items():
                curve = curves.setdefault(name, dict(points=[], notes=[]))
                if 'failure' in row:
                    curve['notes'].append(f'at {place:,}: {row["failure"]}')
                    continue
                curve['points'].append(
                    dict(
                        x=place,
                        median=row['median_ms'],
                        quartiles=row['quartiles_ms'],
                        runs=row['runs'],
                    )
                )
        yield dict(key=self.key, title=self.title, over=self.over, unit='ms', curves=curves)
