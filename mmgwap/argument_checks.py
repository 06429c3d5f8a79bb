"""Checks of values that come from configs.

Python takes ``True`` for 1 and 'False' for true, and torch says where a wrong
number hurt, not where it came from.
"""

from numbers import Integral, Real
from typing import Any

from mmengine.registry import MODELS


def check_whole(value: Any, name: str, least: int = 1, most: int = 10**6) -> None:
    """Refuse what is no whole number in a range.

    Args:
        value: of an argument.
        name (str): the class and the argument.
        least, most (int): both allowed; above the latter a value would make a
            net that no memory holds.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= value <= most:
        raise ValueError(f'{name} must be a whole number from {least} to {most}, got {value!r:.80}')


def check_number(value: Any, name: str, least: float, most: float) -> None:
    """Refuse what is no number in a range, see :func:`check_whole`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not least <= value <= most:
        raise ValueError(f'{name} must be a number from {least} to {most}, got {value!r:.80}')


def check_flag(value: Any, name: str) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise ValueError(f'{name} must be True or False, got {value!r:.80}')


def check_config(value: Any, name: str, optional: bool = False) -> None:
    """Refuse what is no config of a part, a dict with a type."""
    if optional and value is None:
        return
    if not isinstance(value, dict) or 'type' not in value:
        raise ValueError(f'{name} must be a dict(type=...), got {value!r:.80}')


def check_indices(values: Any, name: str, count: int) -> None:
    """Refuse what are no places, one or more, among so many from 0."""
    if (
        not isinstance(values, (list, tuple, range))
        or not values
        or not all(type(place) is int and 0 <= place < count for place in values)
    ):
        raise ValueError(f'{name} must be of 0 to {count - 1}, got {values!r:.80}')


def check_settings(value: Any, name: str, keys: tuple) -> None:
    """Refuse what is neither None nor a dict that has such keys alone."""
    if value is not None and not isinstance(value, dict):
        raise ValueError(f'{name} must be a dict, got {value!r:.80}')
    unknown = sorted(set(value or ()) - set(keys), key=str)
    if unknown:
        raise ValueError(f'{name} has no {unknown}; it has {list(keys)}')


def check_text(value: Any, name: str, empty: bool = False) -> None:
    """Refuse what is no text, or an empty one."""
    if not isinstance(value, str) or not (value or empty):
        raise ValueError(f'{name} must be text, got {value!r:.80}')


def check_norm(value: Any, name: str, optional: bool = False) -> None:
    """Refuse what is no config of a norm layer, or of one that is not known.

    mmcv would say of it "Cannot find None".
    """
    check_config(value, name, optional)
    kind = (value or {}).get('type')
    # As mmcv looks for it: from the scope of the run down.
    with MODELS.switch_scope_and_registry(None) as registry:
        if isinstance(kind, str) and registry.get(kind) is None:
            raise ValueError(f'{name}: there is no norm layer {kind!r:.80}')
