"""Detections as COCO's evaluation server takes them.

A zip that holds one JSON, of the same name: a list of detections
``{image_id, category_id, bbox: [x, y, width, height], score}``, no more than
100 an image.  See https://cocodataset.org/#format-results and #upload.
"""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

from .submission import SubmissionError

LIMIT = 100  # of an image, of all categories together
KEYS = {'image_id', 'category_id', 'bbox', 'score'}


class CocoDetections(NamedTuple):
    """What is submitted of an image, and how much is not.

    Attributes:
        entries: in the server's form.
        without_area: boxes of no width or height, which match nothing.
        surplus: those beyond the best ``LIMIT``.
    """

    entries: list[dict]
    without_area: int
    surplus: int


def coco_detections(
    image_id: int, boxes: np.ndarray, scores: np.ndarray, category_ids: np.ndarray
) -> CocoDetections:
    """The detections of an image in the server's form, the best first.

    Coordinates are rounded to 1e-4 px, for a smaller file; scores are not,
    since that would make some equal.

    Args:
        image_id (int): as in the file of the test set.
        boxes (np.ndarray): (N, 4), x1, y1, x2, y2, px of the original image.
        scores (np.ndarray): (N, ).
        category_ids (np.ndarray): (N, ), ids, not labels from 0.

    Raises:
        SubmissionError: if a coordinate or a score is not finite.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    scores = np.asarray(scores, np.float64)
    bad = ~(np.isfinite(boxes).all(axis=1) & np.isfinite(scores))
    if bad.any():
        raise SubmissionError(
            f'image {image_id}: {bad.sum()} of {len(bad)} detections are not '
            'finite; look at the checkpoint'
        )
    boxes = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).round(4)
    solid = np.flatnonzero((boxes[:, 2:] > 0).all(axis=1))
    # Stable, as the evaluation's own: of equal scores the first stay.
    best = solid[np.argsort(-scores[solid], kind='stable')][:LIMIT]
    entries = [
        dict(
            image_id=int(image_id),
            category_id=int(category_ids[i]),
            bbox=boxes[i].tolist(),
            score=float(scores[i]),
        )
        for i in best
    ]
    return CocoDetections(entries, len(boxes) - len(solid), len(solid) - len(best))


def check_coco_results(
    results: list, image_ids: set[int], category_ids: set[int], where: str
) -> None:
    """Check the content of a results file by the server's rules.

    Args:
        results (list): what the JSON holds.
        image_ids (set[int]): of the test set.
        category_ids (set[int]): of the test set.
        where (str): the file, for the message.

    Raises:
        SubmissionError: at the first rule that is broken.
    """
    if not isinstance(results, list) or not results:
        raise SubmissionError(
            f'{where}: not a list of detections, or none in any image; nothing to submit'
        )
    for place, entry in enumerate(results):
        wrong = _wrong(entry, image_ids, category_ids)
        if wrong:
            raise SubmissionError(f'{where}: detection {place}: {wrong}')
    image, count = Counter(entry['image_id'] for entry in results).most_common(1)[0]
    if count > LIMIT:
        raise SubmissionError(f'{where}: image {image} has {count} detections, more than {LIMIT}')


def _wrong(entry: dict, image_ids: set[int], category_ids: set[int]) -> str:
    """What is wrong with a detection, '' for nothing."""
    if not isinstance(entry, dict) or set(entry) != KEYS:
        return f'needs the keys {sorted(KEYS)}, got {entry!r}'
    for key, known in (('image_id', image_ids), ('category_id', category_ids)):
        if type(entry[key]) is not int or entry[key] not in known:
            return f'{key} {entry[key]!r} is not among those of the test set'
    box, score = entry['bbox'], entry['score']
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(map(_is_number, box))
        or not min(box[2:]) > 0
    ):
        return f'bbox {box!r} is not [x, y, width, height] of finite numbers with a positive size'
    return '' if _is_number(score) else f'score {score!r} is no finite number'


def _is_number(value) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def coco_submission_name(test_set: str, algorithm: str) -> str:
    """Name of the files, ``detections_[test set]_[algorithm]_results``.

    Raises:
        SubmissionError: unless the algorithm consists of letters, digits, '-'
            and '.'; the server divides the name at '_'.
    """
    if not re.fullmatch(r'[A-Za-z0-9.-]+', algorithm):
        raise SubmissionError(
            f'algorithm {algorithm!r}: the server takes letters, digits, "-" and "." only'
        )
    return f'detections_{test_set}_{algorithm}_results'


def write_coco_results(entries: list[dict], folder: Path, name: str) -> Path:
    """Write ``<name>.json``; returns its path.

    A zip of that name goes: one that is there holds checked results.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{name}.json'
    path.with_suffix('.zip').unlink(missing_ok=True)
    path.write_text(json.dumps(entries, allow_nan=False))
    return path


def zip_coco_results(results: Path) -> Path:
    """Put the JSON alone into a zip beside it; returns its path."""
    path = results.with_suffix('.zip')
    with ZipFile(path, 'w', ZIP_DEFLATED) as archive:
        archive.write(results, results.name)
    return path
