"""Stop a run at NaN or infinity before it reaches the weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmgwap.registry import HOOKS


@HOOKS.register_module()
class StopAtInvalidLossHook(Hook):
    """Stop a run if the loss or a gradient is NaN or infinite.

    mmdet's ``CheckInvalidLossHook`` checks every 50th loss after the step of the optimizer, when
    the weights are NaN as well. This hook checks each iteration before the step, on all
    processes. The error names the iteration, the terms of the loss and the images of the batch.
    The state before the iteration, including the statistics of batch norm, is saved as
    ``invalid_loss_at_iter_N.pth``. With accumulated gradients, the state before the first
    accumulated iteration is saved, and an invalid gradient is reported with the images of all
    accumulated iterations.

    In mixed precision only the loss is checked: gradients may overflow, and the gradient scaler
    skips such steps.

    The hook replaces ``backward`` of the optimizer wrapper by a method that checks loss and
    gradients after the backward pass, since mmengine has no hook between the backward pass and
    the step. The check synchronizes with the GPU once per iteration. A forward hook of the model
    keeps the terms of the loss for the error message.

    Raises:
        FloatingPointError: on all processes, with the same message.
    """

    def before_train(self, runner: Runner) -> None:
        model = runner.model
        self._model = model.module if is_model_wrapper(model) else model
        self._losses, self._batches = None, []
        self._model.register_forward_hook(self._keep_losses)
        self._check_after_backward(runner)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        counts = runner.optim_wrapper._accumulative_counts
        if runner.iter % counts == 0 or not self._batches:
            self._first_iter = runner.iter
            self._batches = []
            self._buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        self._batches.append(list(_image_paths((data_batch or {}).get('data_samples'))))

    def _keep_losses(self, model: nn.Module, args: tuple, output: Any) -> None:
        if isinstance(output, dict):
            self._losses = output

    def _check_after_backward(self, runner: Runner) -> None:
        optim_wrapper = runner.optim_wrapper
        backward = optim_wrapper.backward
        checks_gradients = not isinstance(optim_wrapper, AmpOptimWrapper)

        def checked_backward(loss: Tensor, **kwargs) -> None:
            backward(loss, **kwargs)
            gradients, invalid = {}, ~torch.isfinite(loss.detach())
            if checks_gradients and optim_wrapper.should_update():
                gradients = self._named_gradients()
                invalid = invalid | ~torch.isfinite(list(gradients.values())[-1])
            if _on_any_process(invalid):
                self._stop(runner, loss, gradients)
            self._losses = None

        optim_wrapper.backward = checked_backward

    def _named_gradients(self) -> dict[str, Tensor]:
        """Return the gradients by name, followed by their norm."""
        gradients = {
            f'the gradient of {name}': parameter.grad
            for name, parameter in self._model.named_parameters()
            if parameter.grad is not None
        }
        norm = nn.utils.get_total_norm(list(gradients.values()))
        return {**gradients, 'the norm of all gradients': norm}

    def _stop(self, runner: Runner, loss: Tensor, gradients: dict[str, Tensor]) -> None:
        # The message is exchanged before the checkpoint is saved, since saving may fail.
        found = all_gather_object(
            (
                _describe_invalid(self._loss_terms(loss)),
                _describe_invalid(gradients),
                self._batches[-1],
                sum(self._batches, []),
            )
        )
        reports = [(rank, terms, images) for rank, (terms, _, images, _) in enumerate(found)]
        if not any(terms for _, terms, _ in reports):
            reports = [(rank, names, images) for rank, (_, names, _, images) in enumerate(found)]
        # An invalid loss on one process makes the averaged gradients of all processes invalid.
        message = '; '.join(
            f'{names} in process {rank}, images: {", ".join(images)}'
            for rank, names, images in reports
            if names
        )
        raise FloatingPointError(
            f'iteration {runner.iter + 1}: {message}. The state before this iteration '
            f'{self._save(runner)}'
        )

    def _loss_terms(self, loss: Tensor) -> dict[str, Tensor]:
        """Return the terms of the loss by name, followed by the total."""
        terms = self._model.parse_losses(self._losses)[1] if self._losses else {}
        return {**{name: value for name, value in terms.items() if name != 'loss'}, 'loss': loss}

    def _save(self, runner: Runner) -> str:
        """Save the state before the iteration, and describe the result."""
        for name, buffer in self._model.named_buffers():
            buffer.copy_(self._buffers[name])
        path = Path(runner.work_dir) / f'invalid_loss_at_iter_{runner.iter + 1}.pth'
        iteration = self._first_iter
        if not isinstance(runner.train_loop, IterBasedTrainLoop):
            # Epoch-based loops resume at the start of an epoch.
            iteration = runner.epoch * len(runner.train_dataloader)
        try:
            runner.save_checkpoint(
                str(path.parent),
                path.name,
                by_epoch=False,
                meta=dict(iter=iteration, epoch=runner.epoch),
                backend_args=dict(backend='mmgwap.atomic'),
            )
        except OSError as error:
            return f'could not be saved: {error}'
        return f'is saved in {path}'


def _on_any_process(condition: Tensor) -> bool:
    """Return whether a condition holds on any process; all processes have to call this."""
    condition = condition.float()
    all_reduce(condition, 'max')
    return bool(condition.item())


def _image_paths(samples: Any) -> Iterator[str]:
    """Yield the image paths of data samples in nested lists and dicts."""
    if isinstance(samples, dict):
        samples = samples.values()
    elif isinstance(samples, BaseDataElement):
        yield samples.get('img_path', 'without a path')
        return
    if not isinstance(samples, (str, bytes, Tensor, type(None))):
        for sample in samples:
            yield from _image_paths(sample)


def _describe_invalid(values: dict[str, Tensor]) -> str:
    """Name the values that are not finite; '' if all are finite.

    The last value summarizes the others and is named only if the others are finite.
    """
    invalid = [
        name
        for name, value in values.items()
        if isinstance(value, Tensor) and not torch.isfinite(value).all()
    ]
    invalid = invalid[:-1] or invalid
    if not invalid:
        return ''
    kind = 'NaN' if values[invalid[0]].isnan().any() else 'infinite'
    others = f' ({len(invalid) - 3} others as well)' if len(invalid) > 3 else ''
    return f'{", ".join(invalid[:3])} {"are" if invalid[1:] else "is"} {kind}{others}'
