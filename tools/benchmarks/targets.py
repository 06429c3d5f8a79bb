"""What a measurement has to reach, and whether it does."""

from typing import NamedTuple, Optional

TIME, MEMORY, LIMIT = 'time', 'peak memory', 'of the limit'


class Target(NamedTuple):
    """What a contender's time, memory or share of the limit has to be.

    Attributes:
        contender: whose.
        sense: 'at least' or 'at most' so many times that of another, or
            'below' it.
        value: so many times; of the limit the share, 1 for all of it.
        against: the other; None for a share of the limit.
        quantity: TIME, MEMORY or LIMIT.
    """

    contender: str
    sense: str
    value: float
    against: Optional[str] = None
    quantity: str = TIME

    def text(self) -> str:
        if self.quantity == LIMIT:
            return f'{self.sense} {100 * self.value:g} % of the limit'
        times = '' if self.sense == 'below' else f'{self.value:g}x '
        return f'{self.sense} {times}the {self.quantity} of {self.against}'

    def judge(self, rows: dict[str, dict]) -> dict:
        """Compare.

        Args:
            rows (dict): of each contender, ``median_ms``, ``peak_bytes`` and
                ``limit_share``, or fewer if it failed.

        Returns:
            dict: ``contender``; ``text``; ``found``, the ratio or share, and
            ``met``, both None where something was not measured; ``between``,
            the ratios of times that the quartiles allow, and ``sure``, whether
            they all say the same.
        """
        found = self._found(rows)
        met = None if found is None else self._met(found)
        verdict = dict(
            contender=self.contender, text=self.text(), quantity=self.quantity, found=found, met=met
        )
        if met is not None and self.quantity == TIME:
            here, there = (rows[name]['quartiles_ms'] for name in (self.contender, self.against))
            between = here[0] / there[1], here[1] / there[0]
            verdict.update(between=between, sure=all(self._met(one) == met for one in between))
        return verdict

    def _met(self, found: float) -> bool:
        if self.sense == 'below':
            return found < self.value
        return found >= self.value if self.sense == 'at least' else found <= self.value

    def _found(self, rows: dict[str, dict]) -> Optional[float]:
        key = {TIME: 'median_ms', MEMORY: 'peak_bytes', LIMIT: 'limit_share'}[self.quantity]
        here = rows.get(self.contender, {}).get(key)
        if self.quantity == LIMIT:
            return here
        there = rows.get(self.against, {}).get(key)
        return here / there if here is not None and there else None


def less_memory(contender: str, against: str) -> Target:
    return Target(contender, 'below', 1.0, against, MEMORY)
