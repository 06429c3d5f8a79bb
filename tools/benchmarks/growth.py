"""Everything whose growth is measured."""

from collections.abc import Iterator
from typing import Union

import growth_data
import growth_heads
import growth_lip
import torch
from growth_series import CaseSeries, TimeSeries
from sizes import Sizes


def series(sizes: Sizes, device: torch.device) -> Iterator[Union[TimeSeries, CaseSeries]]:
    """All of them, from those of operators to those of data."""
    for module in (growth_lip, growth_heads, growth_data):
        yield from module.series(sizes, device)
