"""A run of those who contend for a piece of work, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, NamedTuple, Optional

import torch
from equal import WrongResult
from peak import peak_bytes
from targets import Target
from timing import Failure, failure, measure

Call = Callable[[], None]


class Setting(NamedTuple):
    """Where is measured, how often, and how fast memory is copied there."""

    device: torch.device
    runs: int
    bytes_per_second: float = float('nan')


@dataclass
class StepCase:
    """Steps of whole models, which do not compute the same.

    Attributes:
        work: what they do, as the table has it.
        builders: by name, functions that build a model and return its step;
            the first is what the others are compared with.
        targets: to be reached.
        most_runs: fewer than the setting's, for steps of seconds.
        weighed: whether memory is measured: that of torch, not of others.
    """

    work: str
    builders: dict[str, Callable[[], Call]]
    targets: tuple[Target, ...] = ()
    most_runs: Optional[int] = None
    weighed: bool = True

    def run(self, setting: Setting) -> dict:
        """Build, time and weigh.

        Returns:
            dict: as of :func:`result`.

        Raises:
            WrongResult: if a builder does.
        """
        calls, rows = {}, {}
        for name, build in self.builders.items():
            torch.manual_seed(0)
            try:
                calls[name] = build()
            except WrongResult:
                raise
            except Exception as error:
                rows[name] = dict(failure=failure(error).reason)
        runs = min(self.most_runs or setting.runs, setting.runs)
        rows.update(run_calls(calls, setting._replace(runs=runs), self.weighed))
        return result(self.work, self.builders, rows, self.targets)


def run_calls(calls: dict[str, Call], setting: Setting, weighed: bool = True) -> dict[str, dict]:
    """Time and weigh calls side by side; each gets a row, see ``result``."""
    rows = {}
    for name, times in measure(calls, setting.device, setting.runs).items():
        if isinstance(times, Failure):
            rows[name] = dict(failure=times.reason)
            continue
        rows[name] = dict(
            median_ms=times.median,
            quartiles_ms=times.quartiles,
            runs=len(times.values),
            calls_a_run=times.calls,
        )
        if not weighed:
            continue
        try:
            rows[name]['peak_bytes'] = peak_bytes(calls[name], setting.device)
        except Exception as error:
            rows[name]['peak_failure'] = failure(error).reason
    return rows


def result(
    work: str, names: Sequence[str], rows: dict[str, dict], targets: Sequence[Target]
) -> dict:
    """What came of a case.

    Returns:
        dict: ``work``; ``rows`` by contender, in order: ``median_ms``,
        ``quartiles_ms``, ``runs``, ``calls_a_run``, ``times_the_first``,
        ``peak_bytes`` and, where a limit is known, ``limit_bytes`` and
        ``limit_share``; or ``failure``, a line; and the verdicts on
        ``targets``.
    """
    rows = {name: rows[name] for name in names}
    base = next(iter(rows.values())).get('median_ms')
    for row in rows.values():
        if base and 'median_ms' in row:
            row['times_the_first'] = row['median_ms'] / base
    return dict(work=work, rows=rows, targets=[target.judge(rows) for target in targets])
