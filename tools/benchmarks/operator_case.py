"""Operators that compute the same, and their run."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from math import ceil, isnan
from typing import Callable, NamedTuple, Optional

import torch
from contest import Call, Setting, result, run_calls
from equal import check_equal, gradient_like, leaves, output_and_gradients
from limit import Traffic
from targets import Target
from timing import failure
from torch import Tensor

CACHES = 4  # the inputs that take turns have so many times a cache's size


class Contender(NamedTuple):
    """A function of the inputs, and how it wants to have them laid out."""

    function: Callable[..., Tensor]
    lay_out: Callable[[Sequence[Tensor]], Sequence[Tensor]] = tuple


@dataclass
class OperatorCase:
    """Functions that compute the same, checked before they are timed.

    Attributes:
        work: what they do, as the table has it.
        contenders: by name; the first is what the others are compared with.
        make_inputs: new ones at each call.
        differentiated: of the first so many inputs gradients are taken.
        backward: whether the backward pass is timed too.  It's always checked.
        targets: to be reached.
        traffic: of inputs, output and gradients, the bytes that must move.
    """

    work: str
    contenders: dict[str, Contender]
    make_inputs: Callable[[], Sequence[Tensor]]
    differentiated: int = 1
    backward: bool = True
    targets: tuple[Target, ...] = ()
    traffic: Optional[Callable[..., Traffic]] = None

    def run(self, setting: Setting) -> dict:
        """Check, time and weigh.

        Returns:
            dict: as of :func:`result`.

        Raises:
            WrongResult: if contenders differ in output or gradients.
        """
        sets = self._input_sets(setting.device)
        calls, rows, first, traffic = {}, {}, None, None
        for name, contender in self.contenders.items():
            try:
                own = [leaves(contender.lay_out(one), self.differentiated) for one in sets]
                seen = output_and_gradients(contender.function, own[0])
            except Exception as error:
                rows[name] = dict(failure=failure(error).reason)
                continue
            if first is None:
                first = name, seen
                if self.traffic:
                    traffic = self.traffic(own[0], seen[0], seen[1:])
            check_equal(seen, first[1], f'{self.work}: {name} against {first[0]}')
            calls[name] = _in_turns(contender.function, own, seen[0], self.backward)
        del first, seen  # that peaks are those of the calls alone
        rows.update(run_calls(calls, setting))
        if traffic:
            for row in rows.values():
                row.update(self._share(row, traffic, setting))
        return result(self.work, self.contenders, rows, self.targets)

    def _input_sets(self, device: torch.device) -> list[Sequence[Tensor]]:
        """So many that no call finds its inputs in the cache of a GPU."""
        torch.manual_seed(0)
        sets = [self.make_inputs()]
        if device.type == 'cuda':
            cache = torch.cuda.get_device_properties(device).L2_cache_size
            size = sum(one.nbytes for one in sets[0])
            sets += [self.make_inputs() for _ in range(ceil(CACHES * cache / size) - 1)]
        return sets

    def _share(self, row: dict, traffic: Traffic, setting: Setting) -> dict:
        """The share of the limit that a contender reaches, if it's known."""
        if 'median_ms' not in row or isnan(setting.bytes_per_second):
            return {}
        moved = traffic.both if self.backward else traffic.forward
        able = setting.bytes_per_second * row['median_ms'] * 1e-3
        found = dict(limit_bytes=moved, limit_share=moved / able)
        if self.backward:
            found.update(limit_bytes_once=traffic.once, limit_share_once=traffic.once / able)
        return found


def _in_turns(
    function: Callable[..., Tensor], sets: list[Sequence[Tensor]], out: Tensor, backward: bool
) -> Call:
    """A call on the next of the inputs."""
    turns = cycle(
        [
            (
                inputs,
                [one for one in inputs if one.requires_grad],
                gradient_like(out) if backward else None,
            )
            for inputs in sets
        ]
    )

    def both() -> None:
        inputs, wanted, gradient = next(turns)
        torch.autograd.grad(function(*inputs), wanted, gradient)

    @torch.no_grad()
    def forward() -> None:
        function(*next(turns)[0])

    return both if backward else forward
