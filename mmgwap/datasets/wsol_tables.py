"""Reading lists, numbers and boxes of published data sets, with their paths."""

import math
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .text_files import read_text


def read_table(path: Path, count: int) -> dict[str, list[str]]:
    """Fields of each line behind the first, by the first; blanks part them."""
    if not path.is_file():
        raise FileNotFoundError(f'{path}: missing; is the folder given the right one?')
    table = {}
    lines = read_text(path).splitlines()
    for number, line in enumerate(lines, 1):
        fields = line.split(maxsplit=count - 1)
        if not fields:
            continue
        if len(fields) != count or fields[0] in table:
            what = (
                f'{fields[0]} comes a second time'
                if fields[0] in table
                else f'needs {count} fields, got {line!r}'
            )
            raise ValueError(f'{path}, line {number}: {what}')
        table[fields[0]] = [field.strip() for field in fields[1:]]
    return table


def check_images(folder: Path, images: Iterable[str]) -> None:
    """Refuse lists of images that are not there."""
    there: dict[Path, set] = {}
    missing = []
    for path in (folder / image for image in images):
        if path.parent not in there:
            there[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        if path.name not in there[path.parent]:
            missing.append(path)
    if missing:
        raise FileNotFoundError(f'{missing[0]}: missing, and {len(missing) - 1} other images')


def read_number(text: str, where: str) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f'{where} must be a number, got {text!r:.80}')
    return value


def upright_boxes(boxes: list[list[float]], where: str) -> np.ndarray:
    for x0, y0, x1, y1 in boxes:
        if x1 < x0 or y1 < y0:
            raise ValueError(f'{where}: the box {x0:g}, {y0:g}, {x1:g}, {y1:g} is inverted')
    return np.array(boxes)
