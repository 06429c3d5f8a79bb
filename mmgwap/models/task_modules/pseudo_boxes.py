"""Choose pseudo boxes among the detections of a teacher, and count them."""

import math
from collections.abc import Sequence
from typing import Optional

import torch
from mmcv.ops import batched_nms
from mmdet.structures.bbox import bbox_overlaps
from mmengine.dist import all_reduce
from mmengine.structures import InstanceData
from torch import Tensor, nn

BINS = 100  # of the histograms of scores


def select_boxes(
    instances: InstanceData,
    thresholds: Tensor,
    labels: Optional[Tensor] = None,
    best_score: Optional[float] = None,
    max_overlap: float = 0.6,
) -> InstanceData:
    """Select the boxes of an image that become pseudo boxes.

    First, the best box of each present class, from ``best_score``; then the boxes that reach the
    threshold of their class. Both in the order of their scores, and of equal scores the first. A
    box whose IoU with an earlier selected box is above ``max_overlap`` is left out, whatever the
    classes: an object has one class. Boxes of absent classes are never selected.

    Args:
        instances (InstanceData): bboxes (N, 4), labels (N, ) and scores (N, ) in [0, 1].
        thresholds (Tensor): (K, ) minimum score of each class.
        labels (Tensor): (K, ), 1 for present, 0 for absent, -1 for unknown classes; None if
            nothing is known.
        best_score (float): minimum score of the best box of a present class; None to ask each box
            for the threshold of its class.
        max_overlap (float): largest IoU of two selected boxes.

    Returns:
        InstanceData: the selected boxes.

    Example:
        >>> boxes = InstanceData(
        ...     bboxes=torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [6, 6, 9, 9]]),
        ...     labels=torch.tensor([0, 1, 1]),
        ...     scores=torch.tensor([0.9, 0.3, 0.2]),
        ... )
        >>> thresholds = torch.tensor([0.5, 0.5])
        >>> select_boxes(boxes, thresholds).scores
        tensor([0.9000])
        >>> select_boxes(boxes, thresholds, torch.tensor([1, 1]), best_score=0.1).scores
        tensor([0.9000, 0.2000])
        >>> select_boxes(boxes, thresholds, torch.tensor([0, 1]), best_score=0.1).scores
        tensor([0.3000])
    """
    scores, classes = instances.scores, instances.labels
    passes = scores >= thresholds[classes]
    is_best = torch.zeros_like(passes)
    if labels is not None:
        passes &= labels[classes] != 0
        if best_score is not None:
            is_best = (labels[classes] == 1) & (scores >= best_score)
    overlaps = (bbox_overlaps(instances.bboxes, instances.bboxes) > max_overlap).cpu()
    order = scores.argsort(descending=True, stable=True)
    order = order[(passes | is_best)[order]].tolist()
    passes, is_best, classes = passes.tolist(), is_best.tolist(), classes.tolist()
    selected, found, free = [], set(), torch.ones(len(scores), dtype=torch.bool)
    for needs_best in (True, False):
        for i in order:
            wanted = is_best[i] and classes[i] not in found if needs_best else passes[i]
            if wanted and free[i]:
                selected.append(i)
                found.add(classes[i])
                free &= ~overlaps[i]
                free[i] = False
    return instances[torch.tensor(selected, dtype=torch.int64, device=scores.device)]


def merge_boxes(boxes: list[InstanceData]) -> InstanceData:
    """Merge boxes of two sources: of boxes with the same class that overlap, the best is kept."""
    if len(boxes) == 1:
        return boxes[0]
    merged = InstanceData.cat(boxes)
    if not len(merged):
        return merged
    nms_cfg = dict(type='nms', iou_threshold=0.5)
    _, keep = batched_nms(merged.bboxes, merged.scores, merged.labels, nms_cfg)
    return merged[keep]


class ScoreThresholds(nn.Module):
    """A score threshold for each class, at which pseudo boxes are as frequent as boxes.

    The threshold of a class is the score above which the detections on label-only images are
    ``ratio`` times as many per image as the boxes on the images with boxes, limited to a range.
    LabelMatch (Chen et al., CVPR 2022) finds such thresholds by a pass over all images; this class
    keeps running histograms. Counts are added over all processes.

    Args:
        num_classes (int): number of classes K.
        limits (tuple[float, float]): smallest and largest threshold. The largest applies until a
            tenth of the window has been seen.
        ratio (float): pseudo boxes per box.
        window (int): number of images over which the counts decay by e.
    """

    def __init__(
        self, num_classes: int, limits: tuple[float, float], ratio: float, window: int
    ) -> None:
        super().__init__()
        self.limits, self.ratio, self.window = limits, ratio, window
        self.register_buffer('boxes', torch.zeros(num_classes))
        self.register_buffer('scores', torch.zeros(num_classes, BINS))
        self.register_buffer('images', torch.zeros(2))  # with boxes, without boxes

    def update(self, boxed: Sequence[InstanceData], detections: Sequence[InstanceData]) -> None:
        """Count the boxes of some images, and the detections on other images."""
        num_classes = len(self.boxes)
        boxes, scores = torch.zeros_like(self.boxes), torch.zeros_like(self.scores)
        for instances in boxed:
            boxes += torch.bincount(instances.labels, minlength=num_classes)
        for instances in detections:
            bins = (instances.scores * BINS).long().clamp(max=BINS - 1)
            scores += torch.bincount(
                instances.labels * BINS + bins, minlength=num_classes * BINS
            ).view_as(scores)
        images = boxes.new_tensor([len(boxed), len(detections)])
        for counts in (boxes, scores, images):
            all_reduce(counts)
        decay = torch.exp(-images / self.window)
        self.boxes.mul_(decay[0]).add_(boxes)
        self.scores.mul_(decay[1]).add_(scores)
        self.images.mul_(decay).add_(images)

    def forward(self) -> Tensor:
        """Return the thresholds (K, )."""
        low, high = self.limits
        if self.images.min() < self.window / 10:
            return torch.full_like(self.boxes, high)
        wanted = self.ratio * self.boxes / self.images[0] * self.images[1]
        # Detections at or above the lower edge of each bin.
        above = self.scores.flip(1).cumsum(1).flip(1)
        # The lowest edge with at most the wanted number of detections.
        edge = (above > wanted[:, None]).sum(dim=1)
        return (edge / BINS).clamp(low, high)


class PseudoBoxStatistics(nn.Module):
    """Running counts of pseudo boxes, by class.

    Args:
        num_classes (int): number of classes K.
        window (int): number of images over which the counts decay by e.

    Attributes:
        counts (Tensor): (5, K); by class, the pseudo boxes, the images on which the class is
            present, the true boxes where they are known, the pseudo boxes that match a true box of
            their class with IoU >= 0.5, and the pseudo boxes on images with known truth.
        images (Tensor): (4, ), images seen, images left out of the losses, images with a present
            class without pseudo boxes, of which that class is left out of the losses, and images
            of which all pseudo boxes lie outside of the strong view.
    """

    PSEUDO, PRESENT, TRUE, MATCHED, JUDGED = range(5)
    SEEN, LEFT_OUT, MASKED, OUTSIDE = range(4)

    def __init__(self, num_classes: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.register_buffer('counts', torch.zeros(5, num_classes))
        self.register_buffer('images', torch.zeros(4))

    def update(self, counts: Tensor, images: Tensor) -> None:
        """Add the counts of a step, summed over all processes."""
        for new in (counts, images):
            all_reduce(new)
        decay = math.exp(-images[0].item() / self.window)
        self.counts.mul_(decay).add_(counts)
        self.images.mul_(decay).add_(images)

    def summary(self) -> dict[str, float]:
        """Return the boxes per image, the shares of images and, if known, precision and recall."""
        counts, images = self.counts.sum(dim=1), self.images
        seen = images[self.SEEN].clamp(min=1e-9)
        rates = dict(
            pseudo_boxes_per_image=counts[self.PSEUDO] / seen,
            pseudo_left_out=images[self.LEFT_OUT] / seen,
            pseudo_masked=images[self.MASKED] / seen,
        )
        if counts[self.TRUE] > 0:
            rates['pseudo_precision'] = counts[self.MATCHED] / counts[self.JUDGED].clamp(min=1e-9)
            rates['pseudo_recall'] = counts[self.MATCHED] / counts[self.TRUE]
        return {name: float(rate) for name, rate in rates.items()}


def count_matches(pseudo: InstanceData, true: InstanceData, num_classes: int) -> Tensor:
    """Count the pseudo boxes of each class that match a true box of the class with IoU >= 0.5.

    In the order of their scores, each pseudo box takes the free true box with the highest IoU.

    Args:
        pseudo (InstanceData): bboxes, labels, scores.
        true (InstanceData): bboxes, labels.
        num_classes (int): number of classes K.

    Returns:
        Tensor: (K, ).
    """
    matched = torch.zeros(num_classes, device=true.labels.device)
    if not len(true):
        return matched
    free = torch.ones(len(true), dtype=torch.bool, device=true.labels.device)
    overlaps = bbox_overlaps(pseudo.bboxes, true.bboxes)
    overlaps = overlaps.where(pseudo.labels[:, None] == true.labels, -1)
    for index in pseudo.scores.argsort(descending=True).tolist():
        value, best = overlaps[index].where(free, -1).max(dim=0)
        if value >= 0.5:
            free[best] = False
            matched[pseudo.labels[index]] += 1
    return matched


def count_boxes(
    pseudo: InstanceData, labels: Tensor, true: Optional[InstanceData] = None
) -> Tensor:
    """Count the boxes of an image for :class:`PseudoBoxStatistics`.

    Args:
        pseudo (InstanceData): pseudo boxes; bboxes, labels, scores.
        labels (Tensor): (K, ), 1 for present classes.
        true (InstanceData): true boxes, if they are known; bboxes, labels.

    Returns:
        Tensor: (5, K).
    """
    num_classes = len(labels)
    count = torch.bincount(pseudo.labels, minlength=num_classes)
    unknown = torch.zeros_like(count)
    of_truth = unknown, unknown, unknown
    if true is not None:
        of_truth = (
            torch.bincount(true.labels, minlength=num_classes),
            count_matches(pseudo, true, num_classes),
            count,
        )
    return torch.stack([row.float() for row in (count, labels == 1, *of_truth)])
