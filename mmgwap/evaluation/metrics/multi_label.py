"""Average precision of image-level scores."""

from collections.abc import Sequence
from typing import Optional

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from terminaltables import AsciiTable

from mmgwap.evaluation.functional import average_precision_of_class
from mmgwap.registry import METRICS
from mmgwap.structures import multi_hot


@METRICS.register_module()
class MultiLabelMetric(BaseMetric):
    """Average precision of the image-level scores of each class.

    Used beside the metric of the boxes: ``val_evaluator=[dict(type='CocoMetric', ...),
    dict(type='mmgwap.MultiLabelMetric')]``. The labels of an image are those of its data sample,
    or the labels of its boxes. An image with an unknown label of a class does not count for that
    class. The classes of an image that could not be read (see ``BadImagesHook``) count as never
    found.

    Reports ``mAP`` in [0, 1] over the classes that occur, and with ``classwise`` also
    ``AP_<class>`` and a table.

    Args:
        classwise (bool): whether to report each class.
        collect_device (str): 'cpu' or 'gpu', as in mmengine.
        prefix (str): prefix of the names in the log.

    Raises:
        ValueError: if predictions lack image-level scores, or have another number of classes than
            the data set.
    """

    default_prefix = 'image'

    def __init__(
        self, classwise: bool = True, collect_device: str = 'cpu', prefix: Optional[str] = None
    ) -> None:
        super().__init__(collect_device, prefix)
        self.classwise = classwise

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep scores and labels of a batch."""
        num_classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            scores = sample.get('pred_image_scores')
            if scores is None or len(scores) != num_classes:
                raise ValueError(
                    f'MultiLabelMetric: {sample.get("img_path")}: pred_image_scores must have '
                    f'{num_classes} values, got {None if scores is None else len(scores)}; '
                    'mmgwap.MultiTaskDetector predicts them'
                )
            labels = multi_hot(sample, num_classes)
            was_read = not sample.get('unreadable', False)
            self.results.append((scores.float().cpu().numpy(), labels.cpu().numpy(), was_read))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        scores, labels, was_read = (np.stack(column) for column in zip(*results))
        values = {
            name: average_precision_of_class(scores[:, i], labels[:, i], was_read)
            for i, name in enumerate(self.dataset_meta['classes'])
        }
        known = [value for value in values.values() if not np.isnan(value)]
        metrics = dict(mAP=float(np.mean(known)) if known else float('nan'))
        if self.classwise:
            metrics.update((f'AP_{name}', value) for name, value in values.items())
            self._log_table(values, (labels == 1).sum(axis=0))
        return metrics

    def _log_table(self, values: dict[str, float], num_images: np.ndarray) -> None:
        rows = [('class', 'images', 'AP')]
        rows += [
            (name, str(count), f'{value:.3f}')
            for (name, value), count in zip(values.items(), num_images)
        ]
        MMLogger.get_current_instance().info('image-level AP\n' + AsciiTable(rows).table)
