"""Detections as PASCAL VOC's development kit and server take them.

A text file for each class, ``results/VOC<year>/Main/comp4_det_test_<class>
.txt``, with a line ``<image id> <confidence> <xmin> <ymin> <xmax> <ymax>`` for
each detection.  Pixels are counted from 1, and those of all four coordinates
belong to the box.  See section 8.2 of the kit's manual (devkit_doc.pdf); comp4
is for training on any data, as ImageNet weights are.
"""

import math
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .submission import SubmissionError


def voc_lines(image_id: str, boxes: np.ndarray, scores: np.ndarray) -> list[str]:
    """Lines of the detections of one class on an image.

    mmdet counts pixels from 0: it takes 1 from each coordinate of an
    annotation, the lower right ones too, so here 1 is added to each.

    Args:
        image_id (str): as in the list of the test set.
        boxes (np.ndarray): (N, 4), x1, y1, x2, y2, px, as mmdet has them.
        scores (np.ndarray): (N, ).

    Raises:
        SubmissionError: if a coordinate or a score is not finite.
    """
    rows = np.column_stack([scores, np.reshape(boxes, (-1, 4)) + 1])
    if not np.isfinite(rows).all():
        raise SubmissionError(
            f'image {image_id}: a detection is not finite; look at the checkpoint'
        )
    return [
        f'{image_id} {score:.12f} ' + ' '.join(f'{x:.4f}' for x in box)
        for score, *box in rows.tolist()
    ]


def write_voc_results(lines: dict[str, list[str]], folder: Path, year: int) -> Path:
    """Write ``results/VOC<year>/Main``, a file for each class.

    Those of an earlier run go, and its archive.

    Args:
        lines (dict): of each class; one without detections gets an empty file.
        folder (Path): gets ``results/``.
        year (int): of the test set.

    Returns:
        Path: of the folder of the files.
    """
    main = folder / 'results' / f'VOC{year}' / 'Main'
    main.mkdir(parents=True, exist_ok=True)
    for old in [_archive_of(main), *main.glob('comp4_det_test_*.txt')]:
        old.unlink(missing_ok=True)
    for name, rows in lines.items():
        _file_of(main, name).write_text(''.join(f'{row}\n' for row in rows))
    return main


def check_voc_results(main: Path, classes: Sequence[str], image_ids: Sequence[str]) -> None:
    """Check the files as the server will read them.

    Raises:
        SubmissionError: at the first line that is not as described, or if
            there is no detection at all.
    """
    known, lines = set(image_ids), 0
    for name in classes:
        path = _file_of(main, name)
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not _is_right(line.split(' '), known):
                raise SubmissionError(
                    f'{path}, line {number}: {line!r} is not an image of the '
                    'test set, a confidence and a box'
                )
            lines += 1
    if not lines:
        raise SubmissionError(f'{main}: no detection in any image; nothing to submit')


def _is_right(fields: list[str], image_ids: set) -> bool:
    if len(fields) != 6 or fields[0] not in image_ids:
        return False
    try:
        score, x1, y1, x2, y2 = map(float, fields[1:])
    except ValueError:
        return False
    return all(map(math.isfinite, (score, x1, y1, x2, y2))) and x1 <= x2 and y1 <= y2


def pack_voc_results(main: Path) -> Path:
    """Pack a year's results for the server; returns the archive's path.

    It lies beside ``results/``, and the paths in it begin with that.
    """
    path = _archive_of(main)
    with tarfile.open(path, 'w:gz') as archive:
        archive.add(main, main.relative_to(path.parent))
    return path


def _archive_of(main: Path) -> Path:
    return main.parents[2] / f'results_{main.parent.name}.tar.gz'


def _file_of(main: Path, name: str) -> Path:
    return main / f'comp4_det_test_{name}.txt'
