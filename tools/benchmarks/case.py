"""Benchmark cases: contenders for the same work, and their targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, NamedTuple, Optional

from torch import Tensor

Call = Callable[[], object]
ROW_KEYS = dict(time='median_ms', memory='peak_bytes', bandwidth='bandwidth_share')


class Contender(NamedTuple):
    """An implementation that is ready to run."""

    call: Call
    # Output and gradients, which must equal those of the first contender; None for whole
    # networks, which differ.
    values: Optional[Sequence[Tensor]] = None
    # Number of bytes that any implementation must read and write.
    min_bytes: Optional[int] = None
    # Number of bytes in use between the calls that count as memory of the contender.
    held_bytes: int = 0


class Target(NamedTuple):
    """A limit for the ratio of two contenders, or for the share of the bandwidth."""

    contender: str
    quantity: str  # 'time', 'memory' or 'bandwidth'
    limit: float  # maximum ratio to `against`; minimum share of the bandwidth, from 0 to 1
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
    """Position of a case in a growth series."""

    series: str
    axis: str
    value: int


@dataclass
class Case:
    """Contenders for the same work."""

    group: str
    title: str
    # Functions that build a contender, by name. Ratios refer to the first.
    contenders: dict[str, Callable[[], Contender]]
    targets: Sequence[Target] = ()
    point: Optional[Point] = None
    # Whose peak memory is measured: 'torch' (its allocator) or 'python' (with NumPy).
    memory: str = 'torch'

    @property
    def name(self) -> str:
        return f'{self.group}: {self.title}'
