"""Update the weights of a teacher, and report its pseudo boxes."""

from typing import Any, Optional

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmgwap.datasets.samplers.partial_box_batch_sampler import boxed_images
from mmgwap.registry import HOOKS


@HOOKS.register_module()
class MeanTeacherHook(Hook):
    """mmdet's ``MeanTeacherHook`` with buffers, and with a report of the pseudo boxes.

    After each step, ``teacher = (1 - momentum) * teacher + momentum * student`` for parameters
    and floating-point buffers. mmdet leaves the buffers out by default, so that the teacher's
    batch norm keeps its first statistics, and updates a shared tensor once per name.

    At each ``report_interval`` the hook logs the pseudo boxes per image, the shares of images that
    are left out or masked and, where a ``PartialBoxDataset`` hides the true boxes, precision and
    recall. The visualizer gets the pseudo boxes per image of each class. A warning names the
    classes that have had no pseudo boxes.

    Args:
        momentum (float): share of the student, in [0, 1]; 0 for a teacher that never changes.
        report_interval (int): iterations between two reports.

    Raises:
        ValueError: if ``momentum`` is outside of [0, 1], or no training image has boxes.
        TypeError: if the model has no teacher and student.
    """

    def __init__(self, momentum: float = 0.001, report_interval: int = 50) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError(f'MeanTeacherHook: momentum must be in [0, 1], got {momentum}')
        self.momentum, self.report_interval = momentum, report_interval
        self._warned = set()

    def before_train(self, runner: Runner) -> None:
        model = _unwrap(runner.model)
        if not (hasattr(model, 'teacher') and hasattr(model, 'student')):
            raise TypeError(
                'MeanTeacherHook: the model must have a teacher and a student, as '
                f'mmgwap.LabelGuidedTeacher, got {type(model).__name__}'
            )
        model.follows_student = True
        # Boxes from a file can be the only boxes.
        if getattr(model, 'boxes', None) == 'teacher':
            if not boxed_images(runner.train_loop.dataloader.dataset).any():
                raise ValueError(
                    'MeanTeacherHook: none of the training images has boxes, so the teacher cannot '
                    "learn; add images with boxes, or set LabelGuidedTeacher(boxes='file')"
                )
        burn_in = getattr(model, 'burn_in', 0)
        if burn_in >= runner.max_iters:
            runner.logger.warning(
                f'the training ends after {runner.max_iters} iterations, before the burn_in of '
                f'{burn_in}: there will be no pseudo boxes'
            )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        model = _unwrap(runner.model)
        self.momentum_update(model, self.momentum)
        # Other models with a teacher, such as mmdet's SoftTeacher, have no statistics.
        if hasattr(model, 'statistics') and self.every_n_train_iters(runner, self.report_interval):
            self._report(runner, model.statistics)

    @torch.no_grad()
    def momentum_update(self, model: nn.Module, momentum: float) -> None:
        """Move parameters and buffers of the teacher towards those of the student."""
        for kind in ('named_parameters', 'named_buffers'):
            of_teacher = dict(getattr(model.teacher, kind)())
            for name, value in getattr(model.student, kind)():
                if value.is_floating_point():
                    of_teacher[name].lerp_(value, momentum)
                else:
                    of_teacher[name].copy_(value)

    def _report(self, runner: Runner, statistics: Any) -> None:
        if not statistics.images[statistics.SEEN]:
            return
        summary = statistics.summary()
        for name, value in summary.items():
            runner.message_hub.update_scalar(f'train/{name}', value)
        classes = runner.train_loop.dataloader.dataset.metainfo['classes']
        pseudo, present = statistics.counts[[statistics.PSEUDO, statistics.PRESENT]].cpu()
        rates = (pseudo / statistics.images[statistics.SEEN].cpu()).tolist()
        runner.visualizer.add_scalars(
            {f'pseudo_boxes/{name}': rate for name, rate in zip(classes, rates)},
            step=runner.iter + 1,
        )
        self._warn(runner, statistics, classes, (pseudo == 0) & (present >= 20))

    def _warn(self, runner: Runner, statistics: Any, classes: list, empty: torch.Tensor) -> None:
        names = [classes[i] for i in empty.nonzero().flatten().tolist() if i not in self._warned]
        self._warned.update(empty.nonzero().flatten().tolist())
        if names:
            runner.logger.warning(
                f'no pseudo boxes of {", ".join(names)} so far, though images have these labels; '
                'train longer with burn_in, or lower the thresholds or best_score of '
                'LabelGuidedTeacher'
            )
        seen, outside = statistics.images[[statistics.SEEN, statistics.OUTSIDE]].tolist()
        if outside > seen / 2 and 'view' not in self._warned:
            self._warned.add('view')
            runner.logger.warning(
                f'{outside / seen:.0%} of the images lose all pseudo boxes in the strong view, '
                'after PackTeacherView; make its crops larger'
            )


def _unwrap(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
