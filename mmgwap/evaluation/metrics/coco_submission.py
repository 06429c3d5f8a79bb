"""Writes what COCO's evaluation server takes."""

import json
import re
from pathlib import Path

import numpy as np
from mmdet.evaluation import CocoMetric
from mmengine.logging import MMLogger

from mmgwap.evaluation.functional import (
    SubmissionError,
    check_coco_results,
    check_tested,
    coco_detections,
    coco_submission_name,
    write_coco_results,
    zip_coco_results,
)
from mmgwap.registry import METRICS


@METRICS.register_module()
class CocoSubmissionMetric(CocoMetric):
    """Writes the detections on a test set without annotations.

    ``OUT_DIR/detections_<test set>_<algorithm>_results.zip`` is written last,
    after the JSON that goes into it was read again and found in order.  The
    best 100 detections of an image are kept, those without area are not; the
    log tells how many were left out.

    Takes the place of ``CocoMetric`` in ``test_evaluator``, also by
    ``--cfg-options test_evaluator.type=mmgwap.CocoSubmissionMetric
    test_evaluator.ann_file=FILE test_evaluator.out_dir=DIR
    test_evaluator.algorithm=NAME`` with mmdet's own tools/test.py.

    Args:
        ann_file (str): the images and categories of the test set,
            ``image_info_test-dev2017.json``.
        out_dir (str): gets the files.
        algorithm (str): its name at the server; letters, digits, '-', '.'.
        **kwargs: as for ``CocoMetric``; those of its evaluation do nothing.

    Raises:
        SubmissionError: if the server would refuse the results, or an image of
            the test set was not tested.
    """

    def __init__(self, ann_file: str, out_dir: str, algorithm: str, **kwargs) -> None:
        test_set = re.sub('^(image_info|instances)_', '', Path(ann_file).stem)
        self.name = coco_submission_name(test_set, algorithm)
        self.ann_file, self.out_dir = ann_file, Path(out_dir)
        kwargs.update(format_only=True, outfile_prefix=self.name)
        super().__init__(ann_file=ann_file, **kwargs)

    def compute_metrics(self, results: list[tuple]) -> dict[str, int]:
        """Write and check the files; returns how much is in them."""
        predictions = [prediction for _, prediction in results]
        check_tested(
            [one['img_id'] for one in predictions], self._coco_api.get_img_ids(), self.ann_file
        )
        ids = self._category_ids()
        found = [
            coco_detections(
                one['img_id'], one['bboxes'], one['scores'], ids[self._labels(one, len(ids))]
            )
            for one in predictions
        ]
        entries = [entry for one in found for entry in one.entries]
        path = write_coco_results(entries, self.out_dir, self.name)
        self._check(path)
        archive = zip_coco_results(path)
        counts = dict(
            images=len(found),
            images_with_detections=sum(bool(one.entries) for one in found),
            detections=len(entries),
            without_area=sum(one.without_area for one in found),
            surplus=sum(one.surplus for one in found),
        )
        MMLogger.get_current_instance().info(
            '{detections} detections in {images_with_detections} of {images} '
            'images; left out: {without_area} without area, {surplus} beyond '
            'the best 100 of an image'.format(**counts)
        )
        MMLogger.get_current_instance().info(f'to submit: {archive}')
        return counts

    def _category_ids(self) -> np.ndarray:
        """Ids by labels, which mmdet numbers in the order of the file."""
        classes = tuple(self.dataset_meta['classes'])
        ids = self._coco_api.get_cat_ids(cat_names=classes)
        found = tuple(self._coco_api.cats[i]['name'] for i in ids)
        if found != classes:
            raise SubmissionError(
                f'{self.ann_file}: has of the classes of the data set, '
                f'{classes}, these in this order: {found}'
            )
        return np.array(ids, dtype=np.int64)

    def _labels(self, prediction: dict, count: int) -> np.ndarray:
        labels = prediction['labels']
        if len(labels) and labels.max() >= count:
            raise SubmissionError(
                f'image {prediction["img_id"]}: the model found class '
                f'{labels.max()}, and {self.ann_file} has {count}, counted '
                'from 0'
            )
        return labels

    def _check(self, path: Path) -> None:
        """The server's rules, and that pycocotools takes the file."""
        check_coco_results(
            json.loads(path.read_text()),
            set(self._coco_api.imgs),
            set(self._coco_api.cats),
            str(path),
        )
        self._coco_api.loadRes(str(path))
