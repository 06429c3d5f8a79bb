"""How well image-level scores rank the images."""

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from terminaltables import AsciiTable

from mmgwap.argument_checks import check_flag
from mmgwap.evaluation.functional import average_precision
from mmgwap.registry import METRICS
from mmgwap.structures import multi_hot


@METRICS.register_module()
class MultiLabelMetric(BaseMetric):
    """Average precision of the image-level scores, for each class.

    Goes beside the metric of the boxes, ``val_evaluator=[dict(type=
    'CocoMetric', ...), dict(type='mmgwap.MultiLabelMetric')]``.  An image has
    the labels that its data sample gives, or those of its boxes; where it is
    not known whether it has a class, it does not count for that class.  The
    classes of one that could not be read (see ``BadImagesHook``) are never
    found, at any threshold.

    Reports, in [0, 1]: ``mAP``, over the classes that occur, and with
    ``classwise`` ``AP_<class>``, in a table too.

    Args:
        classwise (bool): whether each class is reported.
        collect_device (str): 'cpu' or 'gpu', as in mmengine.
        prefix (str): of the names in the log.

    Raises:
        ValueError: if predictions have no image-level scores, or of another
            number of classes than the data set's.
    """

    default_prefix = 'image'

    def __init__(
        self, classwise: bool = True, collect_device: str = 'cpu', prefix: str = None
    ) -> None:
        super().__init__(collect_device, prefix)
        check_flag(classwise, 'MultiLabelMetric: classwise')
        self.classwise = classwise

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep scores and labels of a batch."""
        num_classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            scores = sample.get('pred_image_scores')
            if scores is None or len(scores) != num_classes:
                raise ValueError(
                    f'MultiLabelMetric: {sample.get("img_path")} needs '
                    f'{num_classes} pred_image_scores, one a class, got '
                    f'{None if scores is None else len(scores)}; they are '
                    "given by type='mmgwap.MultiTaskDetector'"
                )
            self.results.append(
                (
                    scores.float().cpu().numpy(),
                    multi_hot(sample, num_classes).cpu().numpy(),
                    not sample.get('unreadable', False),
                )
            )

    def compute_metrics(self, results: list[tuple]) -> dict:
        scores, labels, read = (np.stack(column) for column in zip(*results))
        values = {
            name: _average_precision(scores[:, i], labels[:, i], read)
            for i, name in enumerate(self.dataset_meta['classes'])
        }
        found = [value for value in values.values() if not np.isnan(value)]
        metrics = dict(mAP=float(np.mean(found)) if found else float('nan'))
        if self.classwise:
            metrics.update((f'AP_{name}', value) for name, value in values.items())
            self._log(values, (labels == 1).sum(axis=0))
        return metrics

    def _log(self, values: dict, counts: np.ndarray) -> None:
        rows = [('class', 'images', 'AP')]
        rows += [
            (name, str(count), f'{value:.3f}')
            for (name, value), count in zip(values.items(), counts)
        ]
        MMLogger.get_current_instance().info('image-level AP\n' + AsciiTable(rows).table)


def _average_precision(scores: np.ndarray, labels: np.ndarray, read: np.ndarray) -> float:
    """Of one class; images that were not read add to the recall's whole."""
    ranked = read & (labels >= 0)
    found, every = (labels[ranked] == 1).sum(), (labels == 1).sum()
    if every and not found:
        return 0.0
    value = average_precision(scores[ranked], labels[ranked] == 1)
    return value * float(found / every) if every else value
