"""What a benchmark case is: contenders for the same work, and targets for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, NamedTuple, Optional

from torch import Tensor

Call = Callable[[], object]
ROW_KEYS = dict(time='median_ms', memory='peak_bytes', bandwidth='bandwidth_share')


class Contender(NamedTuple):
    """An implementation that is ready to run.

    Attributes:
        call: function to measure.
        values: output and gradients, which must equal those of the first contender; None
            where contenders do not compute the same, as whole networks.
        min_bytes: number of bytes that any implementation must read and write, or None.
    """

    call: Call
    values: Optional[Sequence[Tensor]] = None
    min_bytes: Optional[int] = None


class Target(NamedTuple):
    """A limit for the ratio of two contenders, or for the share of the bandwidth.

    Attributes:
        contender: name of the contender that has to reach the target.
        quantity: 'time', 'memory' or 'bandwidth'.
        limit: maximum ratio to ``against``; minimum share, from 0 to 1, of the bandwidth.
        against: name of the contender to compare with; unused for 'bandwidth'.
    """

    contender: str
    quantity: str
    limit: float
    against: str = ''

    def judge(self, rows: dict) -> dict:
        """Return ``contender``, ``text``, and ``measured`` and ``met``, None if not measured."""
        key = ROW_KEYS[self.quantity]
        measured, met = rows[self.contender].get(key), None
        text = f'at least {self.limit:.0%} of the bandwidth'
        if self.against:
            text = f'at most {self.limit:.3g}x the {self.quantity} of {self.against}'
            other = rows[self.against].get(key)
            measured = measured / other if measured is not None and other else None
        if measured is not None:
            met = measured <= self.limit if self.against else measured >= self.limit
        return dict(contender=self.contender, text=text, measured=measured, met=met)


class Point(NamedTuple):
    """Position in a growth series: title of the series, name of the growing size, size."""

    series: str
    axis: str
    value: int


@dataclass
class Case:
    """Contenders for the same work.

    Attributes:
        group: section of the report.
        title: description of the work, unique in its group.
        contenders: functions that build a contender, by name. Ratios refer to the first.
        targets: targets for the contenders.
        point: position in a growth series, or None.
        memory: 'torch' to measure the peak of torch's allocator, 'python' to measure that of
            Python and NumPy.
    """

    group: str
    title: str
    contenders: dict[str, Callable[[], Contender]]
    targets: Sequence[Target] = ()
    point: Optional[Point] = None
    memory: str = 'torch'

    @property
    def name(self) -> str:
        return f'{self.group}: {self.title}'
