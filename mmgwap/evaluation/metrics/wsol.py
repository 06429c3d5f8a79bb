"""Weakly supervised localization, measured from maps in memory."""

from collections.abc import Sequence
from typing import Optional

import numpy as np
from mmdet.structures.bbox import bbox_flip
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from terminaltables import AsciiTable

from mmgwap.argument_checks import check_number, check_text, check_whole
from mmgwap.evaluation.functional import cls_loc_error, is_localized, top_k_error
from mmgwap.evaluation.wsol_maps import SIZE, MapSums
from mmgwap.evaluation.wsol_truth import WSOLTruth
from mmgwap.localization import boxes_from_map
from mmgwap.registry import METRICS
from mmgwap.structures import maps_to_image


@METRICS.register_module()
class WSOLMetric(BaseMetric):
    """Class and place, for models that predict ``pred_image_maps``.

    Needs ``model.test_cfg.with_maps=True``.  Reports, in percent:

    - ``top1_error``, ``top5_error`` of the class;
    - ``loc_top1_error``, ``loc_top5_error``: no box among the first (five) of
      ``pred_instances`` has the class and an IoU of 0.5 (ILSVRC CLS-LOC); the
      first one counts only if it is of the likeliest class;
    - ``gt_known``: the box that the map of the true class shows is right;
    - ``max_box_acc``, ``max_box_acc_threshold`` (in [0, 1)),
      ``max_box_acc_v2`` and ``max_box_acc_v2_30``, ``_50``, ``_70``, of the
      map of the true class, see :class:`mmgwap.evaluation.functional.
      MaxBoxAcc`;
    - ``px_ap`` of that map.

    Those without ground truth, boxes or masks, are left out.  Maps are brought
    to the original image, where boxes are compared, and from there, bilinearly
    again, to the size of the measurement.  An image that could not be read (see
    ``BadImagesHook``) is wrong in everything, and no pixel of it is found.

    Args:
        metadata_root (str): folder of a split of the WSOL evaluation's
            metadata, whose image names are the ``img_id`` of the data samples.
        mask_root (str): folder of its masks; empty if px_ap is not wanted.
        size (tuple[int, int]): height and width that MaxBoxAcc and PxAP are
            measured at; None for those of each image.
        interval (float): between their thresholds.
        iou_thresholds (Sequence[float]): of MaxBoxAccV2.
        box_threshold (float): of gt_known's box, share of the map's maximum.
        collect_device (str): 'cpu' or 'gpu', as in mmengine.
        prefix (str): of the names in the log.

    Raises:
        FileNotFoundError: if metadata or masks are missing.
        ValueError: if an image is not in the metadata or lacks ground truth
            that others have, or a prediction lacks maps or has numbers that
            are not finite; with the image's name.
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
        prefix: str = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        check_text(metadata_root, 'WSOLMetric: metadata_root')
        check_text(mask_root, 'WSOLMetric: mask_root', empty=True)
        check_number(interval, 'WSOLMetric: interval', 1e-5, 0.999)
        check_number(box_threshold, 'WSOLMetric: box_threshold', 0, 0.999)
        for name, values in (('size', size), ('iou_thresholds', iou_thresholds)):
            if not isinstance(values, (list, tuple)) and not (name == 'size' and values is None):
                raise ValueError(f'WSOLMetric: {name} must be a list, got {values!r:.80}')
        for side in size or ():
            check_whole(side, 'WSOLMetric: size', most=10**4)
        for iou in iou_thresholds:
            check_number(iou, 'WSOLMetric: iou_thresholds', 0, 1)
        self.truth = WSOLTruth(metadata_root, mask_root)
        self.settings = dict(
            size=size and tuple(size), interval=interval, iou_thresholds=iou_thresholds
        )
        self.box_threshold = box_threshold
        # Wrong settings are refused now, not after the first batch.
        _Sums(self.truth, self.settings)
        boxes_from_map(np.zeros((1, 1)), box_threshold)
        if self.truth.left_out:
            MMLogger.get_current_instance().info(
                'WSOLMetric leaves out ' + '; '.join(self.truth.left_out)
            )

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the images of a batch; ``results`` keeps the sums alone."""
        if not self.results:
            self.results.append(_Sums(self.truth, self.settings))
        for sample in data_samples:
            image = sample['img_id']
            label = self.truth.label(image)
            if sample.get('unreadable'):
                self.results[0].miss(self.truth, image)
                continue
            scores, score_map = _read(sample, image, label)
            self.results[0].count += 1
            self.results[0].maps.add(self.truth, image, score_map, tuple(sample['ori_shape'][:2]))
            self._count_errors(sample, image, label, scores, score_map)

    def _count_errors(
        self, sample: dict, image: str, label: int, scores: np.ndarray, score_map: np.ndarray
    ) -> None:
        ranking = np.argsort(-scores, kind='stable')
        found = dict(
            top1_error=top_k_error(ranking, label, 1), top5_error=top_k_error(ranking, label, 5)
        )
        if self.truth.has_boxes:
            boxes = self.truth.metadata.boxes[image]
            labels, guesses = _guesses(sample)
            first = labels[:1] == ranking[0]
            known = boxes_from_map(score_map, self.box_threshold)
            found.update(
                loc_top1_error=cls_loc_error(labels[:1][first], guesses[:1][first], label, boxes),
                loc_top5_error=cls_loc_error(labels, guesses, label, boxes),
                gt_known=is_localized(known - _LAST, boxes),
            )
        self.results[0].note(found)

    def evaluate(self, size: int) -> dict:
        """As in mmengine; ``size`` is the number of images."""
        self._num_images = size
        return super().evaluate(size)

    def compute_metrics(self, results: list['_Sums']) -> dict[str, float]:
        """Merge the sums of all processes."""
        total = _Sums(self.truth, self.settings)
        for sums in results:
            total.merge(sums)
        if not total.count:
            raise ValueError('WSOLMetric: no image was measured')
        # mmengine drops what the sampler doubled, but from sums nothing can
        # be dropped.
        twice = total.count - getattr(self, '_num_images', total.count)
        logger = MMLogger.get_current_instance()
        if twice > 0:
            logger.warning(
                f'WSOLMetric counted {twice} images twice, since the sampler '
                'gives all processes as many; sampler=dict(type='
                "'DefaultSampler', shuffle=False, round_up=False) avoids it"
            )
        metrics = total.compute()
        rows = [('measure', '%')] + [
            (name, f'{value:.3f} (of 1)' if name.endswith('threshold') else f'{value:.2f}')
            for name, value in metrics.items()
        ]
        logger.info(f'{total.count} images\n' + AsciiTable(rows).table)
        return metrics


# From mmdet's corners, the lower right one outside, to inclusive ones.
_LAST = np.array([0, 0, 1, 1])


class _Sums:
    """What one process has counted."""

    def __init__(self, truth: WSOLTruth, settings: dict) -> None:
        self.maps = MapSums(truth, **settings)
        self.flags, self.count = {}, 0

    def note(self, found: dict[str, bool]) -> None:
        for name, flag in found.items():
            self.flags[name] = self.flags.get(name, 0) + int(flag)

    def miss(self, truth: WSOLTruth, image: str) -> None:
        """Count an image of which nothing was found."""
        self.count += 1
        self.maps.miss(truth, image)
        found = dict(top1_error=True, top5_error=True)
        if truth.has_boxes:
            found.update(loc_top1_error=True, loc_top5_error=True, gt_known=False)
        self.note(found)

    def merge(self, other: '_Sums') -> None:
        self.count += other.count
        self.note(other.flags)
        self.maps.merge(other.maps)

    def compute(self) -> dict[str, float]:
        shares = {name: 100 * value / self.count for name, value in self.flags.items()}
        return {**shares, **self.maps.compute()}


def _read(sample: dict, image: str, label: int) -> tuple:
    """Scores (K, ), and the map of a class on the original image."""
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
            f'WSOLMetric: {image} is of class {label}, but there '
            f'are {len(scores)} scores and {len(maps)} maps'
        )
    (score_map,) = maps_to_image(sample, maps[label : label + 1])
    return scores, score_map.cpu().numpy()


def _guesses(sample: dict) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N, ) and boxes (N, 4) of inclusive corners."""
    found = sample['pred_instances']
    boxes = found['bboxes'].float()
    if sample.get('flip'):  # which mmdet leaves in the boxes of a view
        boxes = bbox_flip(boxes, sample['ori_shape'], sample['flip_direction'])
    return found['labels'].cpu().numpy(), boxes.cpu().numpy() - _LAST
