"""Weakly supervised localization, measured from the maps of a model."""

from collections.abc import Sequence
from typing import Optional

import numpy as np
from mmdet.structures.bbox import bbox_flip
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from terminaltables import AsciiTable

from mmgwap.evaluation.functional import cls_loc_error, is_localized, top_k_error
from mmgwap.evaluation.wsol import SIZE, ScoreMapMeasures, WSOLGroundTruth
from mmgwap.localization import boxes_from_map
from mmgwap.registry import METRICS
from mmgwap.structures import maps_to_image

# Boxes of mmdet exclude the lower right corner, boxes of ILSVRC include it.
_TO_INCLUSIVE = np.array([0, 0, -1, -1])


@METRICS.register_module()
class WSOLMetric(BaseMetric):
    """Classification and localization of models that predict ``pred_image_maps``.

    Requires ``model.test_cfg.with_maps=True``. Reports, in percent:

    - ``top1_error``, ``top5_error``: classification errors;
    - ``loc_top1_error``, ``loc_top5_error``: share of images where none of the first 1 (5) boxes
      of ``pred_instances`` has the true class and an IoU of 0.5 (ILSVRC CLS-LOC). The first box
      counts for top-1 only if it has the likeliest class;
    - ``gt_known``: share of images where the box of the map of the true class is correct;
    - ``max_box_acc``, ``max_box_acc_threshold`` (in [0, 1)), ``max_box_acc_v2`` and
      ``max_box_acc_v2_30``, ``_50``, ``_70`` of the map of the true class, see
      :class:`mmgwap.evaluation.functional.MaxBoxAcc`;
    - ``px_ap`` of the map of the true class, see :class:`mmgwap.evaluation.functional.PxAP`.

    Measures without ground truth (boxes or masks) are left out. Maps are resized to the original
    image, where boxes are compared, and from there, bilinearly again, to ``size``. An image that
    could not be read (see ``BadImagesHook``) counts as wrong in all measures.

    Args:
        metadata_root (str): folder of a split in the metadata layout of the WSOL evaluation. The
            image names are the ``img_id`` of the data samples.
        mask_root (str): folder of the masks; '' to leave ``px_ap`` out.
        size (tuple[int, int]): height and width at which MaxBoxAcc and PxAP are measured; None
            for the size of each image.
        interval (float): interval between the thresholds of MaxBoxAcc and PxAP, in (0, 1).
        iou_thresholds (Sequence[float]): IoU thresholds of MaxBoxAccV2, in (0, 1].
        box_threshold (float): threshold of the box of ``gt_known``, as a share of the map's
            maximum, in [0, 1).
        backend_args (dict): arguments of mmengine's file backend for metadata and masks.
        collect_device (str): 'cpu' or 'gpu', as in mmengine.
        prefix (str): prefix of the names in the log.

    Raises:
        FileNotFoundError: if metadata or masks are missing.
        ValueError: with the name of the image, if an image is not in the metadata or lacks ground
            truth, or if predictions lack maps or are not finite.
    """

    default_prefix = 'wsol'

    def __init__(
        self,
        metadata_root: str,
        mask_root: str = '',
        size: Optional[tuple[int, int]] = SIZE,
        interval: float = 0.001,
        iou_thresholds: Sequence[float] = (0.3, 0.5, 0.7),
        box_threshold: float = 0.2,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
        backend_args: Optional[dict] = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        if not metadata_root:
            raise ValueError("WSOLMetric: metadata_root must be a folder, got ''")
        self.truth = WSOLGroundTruth(metadata_root, mask_root, backend_args)
        self.settings = dict(
            size=size and tuple(size), interval=interval, iou_thresholds=iou_thresholds
        )
        self.box_threshold = box_threshold
        # Invalid settings raise their error here, not after the first batch.
        _Counts(self.truth, self.settings)
        boxes_from_map(np.zeros((1, 1)), box_threshold)
        if self.truth.left_out:
            MMLogger.get_current_instance().info(
                'WSOLMetric leaves out ' + '; '.join(self.truth.left_out)
            )

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the images of a batch; ``results`` holds the counts only."""
        if not self.results:
            self.results.append(_Counts(self.truth, self.settings))
        counts = self.results[0]
        for sample in data_samples:
            image = sample['img_id']
            label = self.truth.label(image)
            if sample.get('unreadable'):
                counts.add_unreadable(self.truth, image)
                continue
            scores, score_map = _read_predictions(sample, image, label)
            read_size = tuple(sample['ori_shape'][:2])
            counts.maps.add(self.truth, image, score_map, read_size)
            counts.add(self._find_errors(sample, image, label, scores, score_map))

    def _find_errors(
        self, sample: dict, image: str, label: int, scores: np.ndarray, score_map: np.ndarray
    ) -> dict[str, bool]:
        ranking = np.argsort(-scores, kind='stable')
        errors = dict(
            top1_error=top_k_error(ranking, label, 1), top5_error=top_k_error(ranking, label, 5)
        )
        if self.truth.has_boxes:
            truth = self.truth.metadata.boxes[image]
            labels, boxes = _read_boxes(sample)
            likeliest = labels[:1] == ranking[0]
            gt_known = boxes_from_map(score_map, self.box_threshold) + _TO_INCLUSIVE
            errors.update(
                loc_top1_error=cls_loc_error(
                    labels[:1][likeliest], boxes[:1][likeliest], label, truth
                ),
                loc_top5_error=cls_loc_error(labels, boxes, label, truth),
                gt_known=is_localized(gt_known, truth),
            )
        return errors

    def evaluate(self, size: int) -> dict:
        """Evaluate as mmengine does, with ``size`` as the number of images of the data set."""
        self._num_images = size
        return super().evaluate(size)

    def compute_metrics(self, results: list['_Counts']) -> dict[str, float]:
        """Merge the counts of all processes."""
        total = _Counts(self.truth, self.settings)
        for counts in results:
            total.merge(counts)
        if not total.num_images:
            raise ValueError('WSOLMetric: no image was measured')
        # mmengine drops the results of images that the sampler repeats, but counts of several
        # images cannot be split.
        num_repeated = total.num_images - getattr(self, '_num_images', total.num_images)
        logger = MMLogger.get_current_instance()
        if num_repeated > 0:
            logger.warning(
                f'WSOLMetric counted {num_repeated} images twice, since the sampler gives all '
                "processes the same number of images; use sampler=dict(type='DefaultSampler', "
                'shuffle=False, round_up=False)'
            )
        metrics = total.compute()
        rows = [('measure', '%')] + [
            (name, f'{value:.3f} (of 1)' if name.endswith('threshold') else f'{value:.2f}')
            for name, value in metrics.items()
        ]
        logger.info(f'{total.num_images} images\n' + AsciiTable(rows).table)
        return metrics


class _Counts:
    """Counts of the images of one process."""

    def __init__(self, truth: WSOLGroundTruth, settings: dict) -> None:
        self.maps = ScoreMapMeasures(truth, **settings)
        self.events, self.num_images = {}, 0

    def add(self, events: dict[str, bool]) -> None:
        """Count an image."""
        self.num_images += 1
        self._add_events(events)

    def add_unreadable(self, truth: WSOLGroundTruth, image: str) -> None:
        """Count an image that could not be read as wrong in all measures."""
        self.maps.add_missing(truth, image)
        events = dict(top1_error=True, top5_error=True)
        if truth.has_boxes:
            events.update(loc_top1_error=True, loc_top5_error=True, gt_known=False)
        self.add(events)

    def merge(self, other: '_Counts') -> None:
        self.num_images += other.num_images
        self._add_events(other.events)
        self.maps.merge(other.maps)

    def compute(self) -> dict[str, float]:
        shares = {name: 100 * count / self.num_images for name, count in self.events.items()}
        return {**shares, **self.maps.compute()}

    def _add_events(self, events: dict[str, int]) -> None:
        for name, count in events.items():
            self.events[name] = self.events.get(name, 0) + int(count)


def _read_predictions(sample: dict, image: str, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores, (K, ), and the map of a class, resized to the original image."""
    maps, scores = (sample.get(name) for name in ('pred_image_maps', 'pred_image_scores'))
    if maps is None or scores is None:
        raise ValueError(
            f'WSOLMetric: {image} has no pred_image_maps; set model.test_cfg.with_maps=True'
        )
    scores = scores.float().cpu().numpy()
    if not np.isfinite(scores).all():
        raise ValueError(f'WSOLMetric: {image}: scores are not finite')
    if not len(maps) == len(scores) > label:
        raise ValueError(
            f'WSOLMetric: {image} has class {label}, but {len(scores)} scores and {len(maps)} maps'
        )
    (score_map,) = maps_to_image(sample, maps[label : label + 1])
    return scores, score_map.cpu().numpy()


def _read_boxes(sample: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, (N, ), and boxes with inclusive corners, (N, 4)."""
    instances = sample['pred_instances']
    boxes = instances['bboxes'].float()
    if sample.get('flip'):  # mmdet does not flip the boxes of a flipped view back
        boxes = bbox_flip(boxes, sample['ori_shape'], sample['flip_direction'])
    return instances['labels'].cpu().numpy(), boxes.cpu().numpy() + _TO_INCLUSIVE
