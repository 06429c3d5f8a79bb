"""Teacher and student on images with boxes and images with labels only."""

import copy
import logging
from collections.abc import Sequence
from typing import Optional

import torch
from mmdet.models.detectors import SemiBaseDetector
from mmdet.models.utils import rename_loss_dict, reweight_loss_dict
from mmdet.structures import DetDataSample, SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmgwap.registry import MODELS
from mmgwap.structures import batch_multi_hot

from ..task_modules.pseudo_boxes import (
    PseudoBoxStatistics,
    ScoreThresholds,
    count_boxes,
    merge_boxes,
    select_boxes,
)
from .class_masks import mask_classes, supports_class_masks
from .inner_detector import add_teacher_and_student, count_classes, inner_detector
from .multi_task import MultiTaskDetector, detector_loss, fill_instances, select_images, zero_loss
from .view_boxes import keep_shapes, to_file, to_view

BOX_SOURCES = ('teacher', 'file', 'both')


@MODELS.register_module()
class LabelGuidedTeacher(SemiBaseDetector):
    """Mean teacher whose pseudo boxes agree with the image labels.

    Images with boxes give the student's own losses. On an image with labels only, the teacher
    detects objects in a weak view, and the student learns from the boxes in a strong view
    (``PackTeacherView`` in the pipeline; without it, both see the same view). A
    ``MultiTaskDetector`` as student also has its image-level loss on all images. The student
    passes each image through its backbone once.

    The labels have three effects, which ``guided=False`` switches off:

    * Absent classes are removed from the teacher's scores, see
      :func:`mmgwap.models.detectors.class_masks.mask_classes`. With a softmax, present classes
      gain their share.
    * The best box of each present class is a pseudo box from a lower score (``best_score``), and
      takes its object from other classes, see :func:`select_boxes`.
    * If a present class has no pseudo box, the class is removed from the student's scores on that
      image, so that its objects are not taught as background. If the head does not allow that,
      the image is left out.

    An image without a pseudo box in the strong view is left out, unless all classes are absent.

    Mean teacher: Tarvainen & Valpola, NIPS 2017, arXiv 1703.01780; its weights are updated by
    ``mmgwap.MeanTeacherHook``. Weak and strong views: Sohn et al., arXiv 2005.04757. The label
    filter and the best box are those of Omni-DETR (Wang et al., CVPR 2022), the rest is ours.

    A checkpoint of the plain detector, or of the ``MultiTaskDetector``, loads into both.

    Args:
        detector (dict): config of a detector of mmdet, or of a ``MultiTaskDetector``.
        guided (bool): whether to use the labels to find pseudo boxes.
        boxes (str): source of the pseudo boxes: 'teacher', 'file' (the ``file_instances`` of the
            data samples; the teacher is not run), or 'both'.
        thresholds (tuple[float, float]): smallest and largest score threshold of a class, see
            :class:`ScoreThresholds`; two equal numbers for a fixed threshold, above 1 for no
            pseudo boxes.
        best_score (float): minimum score of the best box of a present class; None for no
            exception from the thresholds.
        max_overlap (float): largest IoU of two pseudo boxes of any classes.
        boxes_ratio (float): pseudo boxes per box, to which the thresholds adapt.
        window (int): number of images over which the thresholds and the statistics adapt.
        pseudo_weight (float): weight of the losses of pseudo boxes; 0 does not run the teacher.
        burn_in (int): number of first iterations without pseudo boxes.
        semi_test_cfg (dict): ``predict_on``, 'teacher' (default) or 'student'.
        data_preprocessor (dict): replaces the preprocessor of the detector.
        init_cfg (dict): as in mmdet.

    Raises:
        ValueError: if an argument is out of range, the number of classes of the detector and of
            its image-level head differ, or a checkpoint has no weights of the detector.
    """

    def __init__(
        self,
        detector: ConfigType,
        guided: bool = True,
        boxes: str = 'teacher',
        thresholds: Sequence[float] = (0.4, 0.9),
        best_score: Optional[float] = 0.1,
        max_overlap: float = 0.6,
        boxes_ratio: float = 1.0,
        window: int = 1000,
        pseudo_weight: float = 1.0,
        burn_in: int = 0,
        semi_test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        if boxes not in BOX_SOURCES:
            raise ValueError(
                f'LabelGuidedTeacher: boxes must be one of {BOX_SOURCES}, got {boxes!r}'
            )
        if len(thresholds) != 2 or not 0 <= thresholds[0] <= thresholds[1]:
            raise ValueError(
                'LabelGuidedTeacher: thresholds must be two scores (smallest, largest), got '
                f'{thresholds}'
            )
        semi_test_cfg = {'predict_on': 'teacher', **(semi_test_cfg or {})}
        if semi_test_cfg['predict_on'] not in ('teacher', 'student'):
            raise ValueError(
                "LabelGuidedTeacher: semi_test_cfg.predict_on must be 'teacher' or 'student', got "
                f'{semi_test_cfg["predict_on"]!r}'
            )
        super(SemiBaseDetector, self).__init__(init_cfg=init_cfg)
        # mmdet builds both from one config, which the head of DETR changes.
        self.student, self.teacher = (MODELS.build(copy.deepcopy(detector)) for _ in range(2))
        self.freeze(self.teacher)
        if getattr(inner_detector(self.student), 'with_mask', False):
            raise ValueError(
                'LabelGuidedTeacher: pseudo boxes have no masks; remove mask_head from the detector'
            )
        self.semi_train_cfg, self.semi_test_cfg = {}, semi_test_cfg
        self.data_preprocessor = self.student.data_preprocessor
        if data_preprocessor is not None:
            self.data_preprocessor = MODELS.build(data_preprocessor)
        if fill_instances not in self.data_preprocessor._forward_pre_hooks.values():
            self.data_preprocessor.register_forward_pre_hook(fill_instances, with_kwargs=True)
        self.data_preprocessor.register_forward_pre_hook(keep_shapes, with_kwargs=True)
        self.guided, self.boxes = guided, boxes
        self.best_score, self.max_overlap = best_score, max_overlap
        self.pseudo_weight, self.burn_in = pseudo_weight, burn_in
        self.num_classes = count_classes(self.student)
        self.thresholds = ScoreThresholds(self.num_classes, tuple(thresholds), boxes_ratio, window)
        self.statistics = PseudoBoxStatistics(self.num_classes, window)
        self.register_buffer('iteration', torch.zeros((), dtype=torch.int64))
        self.follows_student = False  # set by MeanTeacherHook
        self.register_load_state_dict_pre_hook(add_teacher_and_student)

    def init_weights(self) -> None:
        super().init_weights()
        if self.init_cfg is None:
            self.teacher.load_state_dict(self.student.state_dict())

    def train(self, mode: bool = True) -> 'LabelGuidedTeacher':
        super().train(mode)
        self.teacher.eval()
        return self

    def _load_from_state_dict(self, *args) -> None:
        # Without mmdet's renaming, of which add_teacher_and_student is the complete form.
        nn.Module._load_from_state_dict(self, *args)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """Compute the losses of a batch, in which any image may lack boxes.

        Args:
            batch_inputs (Tensor): (B, 3, H, W), preprocessed, the views of the student.
            batch_data_samples (list): ground truth, labels and views of each image.

        Returns:
            dict: the student's losses for the images with boxes; its losses for the pseudo boxes
            under the same names after ``pseudo_``; ``loss_image`` if it has an image-level head.
        """
        boxed, taught, masks = self._split(batch_inputs, batch_data_samples)
        student = self.student
        if isinstance(student, MultiTaskDetector):
            feats, cls_feats = student._extract(batch_inputs)
            losses = student.cls_head.loss(cls_feats, batch_data_samples)
        else:
            feats, losses = student.extract_feat(batch_inputs), {}
        detector = inner_detector(student)
        batch = detector, batch_inputs, batch_data_samples, feats
        losses.update(detector_loss(*batch, boxed) if boxed else dict(loss_boxes=zero_loss(*batch)))
        if not taught:
            return dict(losses, pseudo_loss=zero_loss(*batch))
        with mask_classes(detector, masks):
            pseudo = detector_loss(*batch, taught)
        return {
            **losses,
            **rename_loss_dict('pseudo_', reweight_loss_dict(pseudo, self.pseudo_weight)),
        }

    def _split(self, inputs: Tensor, samples: SampleList) -> tuple[list[int], list[int], Tensor]:
        """Return the images with boxes, the images with pseudo boxes, and the latter's masks.

        The ground truth of the images with pseudo boxes is set. The masks are (images, K) bool,
        the classes that are present but have no pseudo box.
        """
        boxed = [i for i, sample in enumerate(samples) if sample.get('has_boxes', True)]
        others = [i for i in range(len(samples)) if i not in boxed]
        self.iteration += 1
        no_masks = torch.zeros(0, self.num_classes, dtype=torch.bool, device=inputs.device)
        if self.iteration <= self.burn_in or not self.pseudo_weight:
            return boxed, [], no_masks
        if not self.follows_student and self.iteration == self.burn_in + 1:
            print_log(
                'LabelGuidedTeacher: the weights of the teacher stay as they are; add dict('
                "type='mmgwap.MeanTeacherHook') to custom_hooks",
                'current',
                logging.WARNING,
            )
        chosen = [samples[i] for i in others]
        labels = torch.zeros(0, self.num_classes)
        if others:
            labels = batch_multi_hot(chosen, self.num_classes)
        labels = labels.to(inputs.device)
        found = self.find_pseudo_boxes(
            select_images(inputs, others) if others else inputs[:0],
            chosen,
            labels,
            [samples[i].gt_instances for i in boxed],
        )
        missing = self._missing(found, labels)
        taught = self._teach(chosen, found, labels, missing)
        return boxed, [others[i] for i in taught], missing[taught] if taught else no_masks

    @torch.no_grad()
    def find_pseudo_boxes(
        self,
        inputs: Tensor,
        samples: SampleList,
        labels: Tensor,
        boxed: Sequence[InstanceData] = (),
    ) -> list[InstanceData]:
        """Find pseudo boxes of images without boxes; in training mode, update the thresholds first.

        Args:
            inputs (Tensor): (B, 3, H, W), preprocessed; seen by the teacher if the samples have
                no ``teacher_view``.
            samples (list): data samples of the images.
            labels (Tensor): (B, K), 1 for present, 0 for absent, -1 for unknown classes.
            boxed (sequence[InstanceData]): ground truth of images with boxes, for the thresholds.

        Returns:
            list[InstanceData]: bboxes in pixels of the image file, labels and scores.
        """
        candidates = [[] for _ in samples]
        if self.boxes != 'teacher':
            for boxes, sample in zip(candidates, samples):
                boxes.append(_file_instances(sample))
        if self.boxes != 'file' and samples:
            for boxes, detections in zip(candidates, self._detect(inputs, samples, labels)):
                boxes.append(detections)
        candidates = [merge_boxes(boxes) for boxes in candidates]
        if self.guided:
            candidates = [
                boxes[known[boxes.labels] != 0] for boxes, known in zip(candidates, labels)
            ]
        if self.training:
            self.thresholds.update(boxed, candidates)
        thresholds = self.thresholds()
        return [
            select_boxes(
                boxes, thresholds, known if self.guided else None, self.best_score, self.max_overlap
            )
            for boxes, known in zip(candidates, labels)
        ]

    def _detect(self, inputs: Tensor, samples: SampleList, labels: Tensor) -> list[InstanceData]:
        """Return the teacher's detections, with bboxes in pixels of the image file."""
        with_view = ['teacher_view' in sample for sample in samples]
        if any(with_view) and not all(with_view):
            raise ValueError(
                f'{samples[with_view.index(False)].get("img_path")}: LabelGuidedTeacher needs '
                'PackTeacherView in the pipelines of all images without boxes, or of none'
            )
        if all(with_view):
            views = [sample.teacher_view for sample in samples]
            data = {key: [view[key] for view in views] for key in ('inputs', 'data_samples')}
            data = self.data_preprocessor(data, False)
            inputs, samples = data['inputs'], data['data_samples']
        detector = inner_detector(self.teacher)
        masks = (labels == 0) & (self.guided and supports_class_masks(detector))
        self.teacher.eval()
        with mask_classes(detector, masks):
            predictions = self.teacher.predict(inputs, samples, rescale=False)
        return [to_file(sample.pred_instances, sample) for sample in predictions]

    def _missing(self, found: Sequence[InstanceData], labels: Tensor) -> Tensor:
        """Return which classes (B, K) are present by the labels, but have no pseudo box."""
        missing = (labels == 1) & self.guided
        for row, boxes in zip(missing, found):
            row[boxes.labels] = False
        return missing

    def _teach(
        self, samples: SampleList, found: Sequence[InstanceData], labels: Tensor, missing: Tensor
    ) -> list[int]:
        """Set the ground truth of images to their pseudo boxes; return the images to learn from."""
        taught, maskable = [], supports_class_masks(inner_detector(self.student))
        counts = torch.zeros_like(self.statistics.counts)
        images = torch.zeros_like(self.statistics.images)
        for i, (sample, boxes) in enumerate(zip(samples, found)):
            sample.gt_instances = to_view(boxes, sample)
            empty = self.guided and not labels[i].any()
            is_missing = bool(missing[i].any())
            if (len(sample.gt_instances) or empty) and (maskable or not is_missing):
                taught.append(i)
                images[PseudoBoxStatistics.MASKED] += is_missing
            elif len(boxes) and not len(sample.gt_instances):
                images[PseudoBoxStatistics.OUTSIDE] += 1
            counts += count_boxes(boxes, labels[i], sample.get('hidden_instances'))
        images[PseudoBoxStatistics.SEEN] = len(samples)
        images[PseudoBoxStatistics.LEFT_OUT] = len(samples) - len(taught)
        self.statistics.update(counts, images)
        return taught


def _file_instances(sample: DetDataSample) -> InstanceData:
    if 'file_instances' not in sample:
        raise ValueError(
            f'{sample.get("img_path")}: no boxes from a file, which LabelGuidedTeacher(boxes=...) '
            'asks for; set pseudo_boxes=FILE of its data set'
        )
    return sample.file_instances
