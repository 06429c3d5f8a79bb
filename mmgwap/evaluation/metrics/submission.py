"""Metrics that write result files for the evaluation servers of COCO and PASCAL VOC."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np
from mmdet.evaluation import CocoMetric
from mmengine.evaluator import BaseMetric
from mmengine.fileio import list_from_file
from mmengine.logging import MMLogger

from mmgwap.evaluation.functional import (
    SubmissionError,
    check_tested,
    coco_detections,
    coco_submission_name,
    voc_lines,
    write_coco_submission,
    write_voc_submission,
)
from mmgwap.registry import METRICS


@METRICS.register_module()
class CocoSubmissionMetric(CocoMetric):
    """Write the detections on a COCO test set without annotations.

    Writes ``OUT_DIR/detections_<test set>_<algorithm>_results.zip``, and the JSON in it. The best
    100 detections of an image are kept, boxes without area are dropped, and the numbers of
    dropped detections are logged.

    Replaces ``CocoMetric`` in ``test_evaluator``. With mmdet's own tools/test.py: ``--cfg-options
    test_evaluator.type=mmgwap.CocoSubmissionMetric test_evaluator.ann_file=FILE
    test_evaluator.out_dir=DIR test_evaluator.algorithm=NAME``.

    Args:
        ann_file (str): images and categories of the test set, ``image_info_test-dev2017.json``.
        out_dir (str): output folder.
        algorithm (str): name at the server; letters, digits, '-' and '.'.
        **kwargs: arguments of ``CocoMetric``. Arguments of its evaluation have no effect.

    Raises:
        SubmissionError: if the server would refuse the results, or if an image of the test set
            was not tested.
    """

    def __init__(self, ann_file: str, out_dir: str, algorithm: str, **kwargs) -> None:
        test_set = re.sub('^(image_info|instances)_', '', Path(ann_file).stem)
        self.name = coco_submission_name(test_set, algorithm)
        self.ann_file, self.out_dir = ann_file, Path(out_dir)
        kwargs.update(format_only=True, outfile_prefix=self.name)
        super().__init__(ann_file=ann_file, **kwargs)

    def compute_metrics(self, results: list[tuple]) -> dict[str, int]:
        """Write the files, and return the numbers of images and detections."""
        predictions = [prediction for _, prediction in results]
        tested = [prediction['img_id'] for prediction in predictions]
        check_tested(tested, self._coco_api.get_img_ids(), self.ann_file)
        ids = self._category_ids()
        detections = []
        for prediction in predictions:
            image, labels = prediction['img_id'], prediction['labels']
            _check_labels(image, labels, len(ids), self.ann_file)
            detections.append(
                coco_detections(image, prediction['bboxes'], prediction['scores'], ids[labels])
            )
        entries = [entry for of_image in detections for entry in of_image.entries]
        archive = write_coco_submission(entries, self.out_dir, self.name)
        counts = dict(
            images=len(detections),
            images_with_detections=sum(bool(of_image.entries) for of_image in detections),
            detections=len(entries),
            without_area=sum(of_image.without_area for of_image in detections),
            surplus=sum(of_image.surplus for of_image in detections),
        )
        logger = MMLogger.get_current_instance()
        logger.info(
            '{detections} detections in {images_with_detections} of {images} images; dropped: '
            '{without_area} without area, {surplus} beyond the best 100 of an image'.format(
                **counts
            )
        )
        logger.info(f'to submit: {archive}')
        return counts

    def _category_ids(self) -> np.ndarray:
        """Return the category id of each label; mmdet numbers labels in the order of the file."""
        classes = tuple(self.dataset_meta['classes'])
        ids = self._coco_api.get_cat_ids(cat_names=classes)
        found = tuple(self._coco_api.cats[i]['name'] for i in ids)
        if found != classes:
            raise SubmissionError(
                f'{self.ann_file}: categories must be the classes of the data set in the same '
                f'order, {classes}, got {found}'
            )
        return np.array(ids, dtype=np.int64)


@METRICS.register_module()
class VOCSubmissionMetric(BaseMetric):
    """Write the detections on a VOC test set, which may have no annotations.

    Writes ``OUT_DIR/results/VOC<year>/Main/comp4_det_test_<class>.txt`` and the archive
    ``OUT_DIR/results_VOC<year>.tar.gz`` of these files.

    Args:
        ann_file (str): list of the images, ``VOC2012/ImageSets/Main/test.txt``.
        out_dir (str): output folder.
        year (int): 2007 or 2012.
        backend_args (dict): arguments of mmengine's file backend for ``ann_file``.
        collect_device (str): 'cpu' or 'gpu', as in mmengine.
        prefix (str): prefix of the names in the log.

    Raises:
        SubmissionError: if the server would refuse the results, or if an image of the list was
            not tested.
    """

    default_prefix = 'pascal_voc'

    def __init__(
        self,
        ann_file: str,
        out_dir: str,
        year: int,
        backend_args: Optional[dict] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.ann_file, self.out_dir, self.year = ann_file, Path(out_dir), year
        lines = list_from_file(ann_file, backend_args=backend_args)
        self.image_ids = [line.split()[0] for line in lines if line.strip()]

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the detections of a batch."""
        for sample in data_samples:
            instances = sample['pred_instances']
            arrays = (
                instances[key].float().cpu().numpy() for key in ('bboxes', 'scores', 'labels')
            )
            self.results.append((sample['img_id'], *arrays))

    def compute_metrics(self, results: list[tuple]) -> dict[str, int]:
        """Write the files, and return the numbers of images and detections."""
        check_tested([image for image, *_ in results], self.image_ids, self.ann_file)
        classes = self.dataset_meta['classes']
        lines = {name: [] for name in classes}
        for image, boxes, scores, labels in results:
            _check_labels(image, labels, len(classes), 'the data set')
            for label, name in enumerate(classes):
                of_class = labels == label
                lines[name] += voc_lines(image, boxes[of_class], scores[of_class])
        archive = write_voc_submission(lines, self.out_dir, self.year)
        counts = dict(images=len(results), detections=sum(map(len, lines.values())))
        logger = MMLogger.get_current_instance()
        logger.info('{detections} detections in {images} images'.format(**counts))
        logger.info(f'to submit: {archive}')
        return counts


def _check_labels(image: object, labels: np.ndarray, count: int, source: str) -> None:
    if len(labels) and labels.max() >= count:
        raise SubmissionError(
            f'image {image}: predicted label {labels.max():.0f}, but {source} has {count} classes'
        )
