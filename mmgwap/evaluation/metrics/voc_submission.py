"""Writes what PASCAL VOC's development kit and server take."""

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from mmengine.evaluator import BaseMetric
from mmengine.fileio import list_from_file
from mmengine.logging import MMLogger

from mmgwap.evaluation.functional import (
    SubmissionError,
    check_tested,
    check_voc_results,
    pack_voc_results,
    voc_lines,
    write_voc_results,
)
from mmgwap.registry import METRICS


@METRICS.register_module()
class VOCSubmissionMetric(BaseMetric):
    """Writes the detections on a test set that may have no annotations.

    ``OUT_DIR/results/VOC<year>/Main/comp4_det_test_<class>.txt``, and with
    these in it ``OUT_DIR/results_VOC<year>.tar.gz``, written last, after the
    files were read again and found in order.

    Args:
        ann_file (str): the list of the images,
            ``VOC2012/ImageSets/Main/test.txt``.
        out_dir (str): gets the files.
        year (int): 2007 or 2012.
        backend_args (dict): of ``ann_file``, as in mmengine.
        collect_device (str): 'cpu' or 'gpu', as in mmengine.
        prefix (str): of the names in the log.

    Raises:
        SubmissionError: if the server would refuse the results, or an image of
            the list was not tested.
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
            found = sample['pred_instances']
            self.results.append(
                (
                    sample['img_id'],
                    *(found[key].float().cpu().numpy() for key in ('bboxes', 'scores', 'labels')),
                )
            )

    def compute_metrics(self, results: list[tuple]) -> dict[str, int]:
        """Write and check the files; returns how much is in them."""
        check_tested([image for image, *_ in results], self.image_ids, self.ann_file)
        classes = self.dataset_meta['classes']
        lines = {name: [] for name in classes}
        for image, boxes, scores, labels in results:
            if len(labels) and labels.max() >= len(classes):
                raise SubmissionError(
                    f'image {image}: the model found class {labels.max():.0f},'
                    f' and the data set has {len(classes)}, counted from 0'
                )
            for label, name in enumerate(classes):
                mine = labels == label
                lines[name] += voc_lines(image, boxes[mine], scores[mine])
        main = write_voc_results(lines, self.out_dir, self.year)
        check_voc_results(main, classes, self.image_ids)
        archive = pack_voc_results(main)
        counts = dict(images=len(results), detections=sum(map(len, lines.values())))
        logger = MMLogger.get_current_instance()
        logger.info('{detections} detections in {images} images'.format(**counts))
        logger.info(f'to submit: {archive}')
        return counts
