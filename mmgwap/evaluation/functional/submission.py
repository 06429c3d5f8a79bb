"""Result files for the evaluation servers of COCO and PASCAL VOC.

COCO takes a zip with one JSON of the same name: a list of detections ``{image_id, category_id,
bbox: [x, y, width, height], score}``, at most 100 per image. See
https://cocodataset.org/#format-results and #upload.

PASCAL VOC takes a text file per class, ``results/VOC<year>/Main/comp4_det_test_<class>.txt``, with
a line ``<image id> <confidence> <xmin> <ymin> <xmax> <ymax>`` per detection. Pixels are counted
from 1, and both corners are inside of the box. See section 8.2 of the development kit's manual
(devkit_doc.pdf). comp4 is for training on any data, such as ImageNet weights.
"""

import json
import re
import tarfile
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

MAX_DETECTIONS = 100  # per image, of all categories together


class SubmissionError(ValueError):
    """Results that a server would refuse, or misinterpret."""


def check_tested(tested: Sequence[Hashable], expected: Sequence[Hashable], source: str) -> None:
    """Check that each image of a test set was tested exactly once.

    Images without detections count as tested.

    Args:
        tested (sequence): ids of the images that the model has seen.
        expected (sequence): ids of the images of the test set.
        source (str): file that lists the test set, for the error.

    Raises:
        SubmissionError: if an image is missing, not listed, or tested twice.
    """
    missing = set(expected) - set(tested)
    if missing:
        raise SubmissionError(
            f'{source}: {len(missing)} of its {len(set(expected))} images were not tested, such as '
            f'{min(missing)!r}; test on the whole set, without indices or a filter'
        )
    unlisted = set(tested) - set(expected)
    if unlisted:
        raise SubmissionError(
            f'{source}: does not list {len(unlisted)} tested images, such as {min(unlisted)!r}; '
            'use the same file for the data set and the metric'
        )
    if len(tested) > len(set(tested)):
        raise SubmissionError(
            f'{source}: {len(tested) - len(set(tested))} images were tested twice'
        )


class CocoDetections(NamedTuple):
    """Detections of an image in the form of COCO's server.

    Attributes:
        entries: detections to submit, best first.
        without_area: number of dropped boxes without width or height, which match no object.
        surplus: number of dropped detections beyond the best ``MAX_DETECTIONS``.
    """

    entries: list[dict]
    without_area: int
    surplus: int


def coco_detections(
    image_id: int, boxes: np.ndarray, scores: np.ndarray, category_ids: np.ndarray
) -> CocoDetections:
    """Convert the detections of an image to the form of COCO's server.

    Coordinates are rounded to 1e-4 px for a smaller file. Scores are not rounded, since rounding
    would make some scores equal.

    Args:
        image_id (int): id in the annotation file of the test set.
        boxes (np.ndarray): (N, 4), x1, y1, x2, y2 in px of the original image.
        scores (np.ndarray): (N, ).
        category_ids (np.ndarray): (N, ), category ids of the annotation file.

    Raises:
        SubmissionError: if a coordinate or a score is not finite.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    scores = np.asarray(scores, np.float64)
    _check_finite(image_id, np.column_stack([boxes, scores]))
    boxes = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).round(4)
    with_area = np.flatnonzero((boxes[:, 2:] > 0).all(axis=1))
    # A stable sort keeps the first of equal scores, as COCO's evaluation does.
    best = with_area[np.argsort(-scores[with_area], kind='stable')][:MAX_DETECTIONS]
    entries = [
        dict(
            image_id=int(image_id),
            category_id=int(category_ids[i]),
            bbox=boxes[i].tolist(),
            score=float(scores[i]),
        )
        for i in best
    ]
    return CocoDetections(entries, len(boxes) - len(with_area), len(with_area) - len(best))


def coco_submission_name(test_set: str, algorithm: str) -> str:
    """Return the name of the files, ``detections_[test set]_[algorithm]_results``.

    Raises:
        SubmissionError: if the algorithm has other characters than letters, digits, '-' and '.'.
            The server splits the name at '_'.

    >>> coco_submission_name('test-dev2017', 'rfcn-r50')
    'detections_test-dev2017_rfcn-r50_results'
    """
    if not re.fullmatch(r'[A-Za-z0-9.-]+', algorithm):
        raise SubmissionError(
            f'algorithm {algorithm!r}: the server allows only letters, digits, "-" and "."'
        )
    return f'detections_{test_set}_{algorithm}_results'


def write_coco_submission(entries: list[dict], folder: Path, name: str) -> Path:
    """Write ``<name>.json`` and ``<name>.zip`` with the JSON in it; return the path of the zip.

    Args:
        entries (list[dict]): results of :func:`coco_detections` of all images.
        folder (Path): output folder.
        name (str): result of :func:`coco_submission_name`.

    Raises:
        SubmissionError: if no image has a detection.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{name}.zip'
    for old in (path, path.with_suffix('.json')):  # files of an earlier run
        old.unlink(missing_ok=True)
    if not entries:
        raise SubmissionError(f'{path}: no detections in any image, nothing to submit')
    content = json.dumps(entries, allow_nan=False)
    path.with_suffix('.json').write_text(content)
    with ZipFile(path, 'w', ZIP_DEFLATED) as archive:
        archive.writestr(f'{name}.json', content)
    return path


def voc_lines(image_id: str, boxes: np.ndarray, scores: np.ndarray) -> list[str]:
    """Format the detections of one class on an image.

    mmdet counts pixels from 0: it subtracts 1 from all coordinates of an annotation, including
    the lower right corner. So 1 is added to all coordinates here.

    Args:
        image_id (str): id in the list of the test set.
        boxes (np.ndarray): (N, 4), x1, y1, x2, y2 in px, as predicted by mmdet.
        scores (np.ndarray): (N, ).

    Raises:
        SubmissionError: if a coordinate or a score is not finite, or a box has x1 > x2 or
            y1 > y2.

    >>> voc_lines('000001', np.array([[0, 0, 9, 9]]), np.array([0.5]))
    ['000001 0.500000000000 1.0000 1.0000 10.0000 10.0000']
    """
    boxes = np.reshape(boxes, (-1, 4)) + 1
    rows = np.column_stack([scores, boxes])
    _check_finite(image_id, rows)
    rounded = boxes.round(4)
    if (rounded[:, :2] > rounded[:, 2:]).any():
        raise SubmissionError(f'image {image_id}: a box has x1 > x2 or y1 > y2')
    return [
        f'{image_id} {score:.12f} ' + ' '.join(f'{x:.4f}' for x in box)
        for score, *box in rows.tolist()
    ]


def write_voc_submission(lines: dict[str, list[str]], folder: Path, year: int) -> Path:
    """Write ``results/VOC<year>/Main`` and ``results_VOC<year>.tar.gz`` with the same files.

    Files of an earlier run are removed.

    Args:
        lines (dict): lines of each class. A class without detections has an empty file.
        folder (Path): output folder.
        year (int): year of the test set.

    Returns:
        Path: path of the archive.

    Raises:
        SubmissionError: if no image has a detection.
    """
    main = folder / 'results' / f'VOC{year}' / 'Main'
    main.mkdir(parents=True, exist_ok=True)
    path = folder / f'results_VOC{year}.tar.gz'
    for old in [path, *main.glob('comp4_det_test_*.txt')]:
        old.unlink(missing_ok=True)
    if not any(lines.values()):
        raise SubmissionError(f'{main}: no detections in any image, nothing to submit')
    for name, rows in lines.items():
        (main / f'comp4_det_test_{name}.txt').write_text(''.join(f'{row}\n' for row in rows))
    with tarfile.open(path, 'w:gz') as archive:
        archive.add(main, main.relative_to(folder))
    return path


def _check_finite(image_id: Hashable, rows: np.ndarray) -> None:
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise SubmissionError(
            f'image {image_id}: {bad.sum()} of {len(bad)} detections are not finite; check the '
            'checkpoint'
        )
