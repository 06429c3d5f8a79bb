"""NaN and infinity, before they reach the weights."""

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
    """Stops a run whose loss, or gradient, is NaN or infinite.

    mmdet's ``CheckInvalidLossHook`` looks at every 50th loss, and after the
    step, when the weights are NaN too.  This one looks before each step, on all
    processes; it tells the iteration, the terms of the loss and the images of
    the batch, and saves ``invalid_loss_at_iter_N.pth``, a whole checkpoint of
    what was before that iteration, statistics of batch norm included.  Where
    gradients are accumulated, it is of what was before the first of their
    iterations, and a bad gradient is one of all their images.

    In mixed precision gradients may overflow, and the gradient scaler skips
    such steps, so there the loss alone is looked at.

    Raises:
        FloatingPointError: on every process, with the same message.
    """

    def before_train(self, runner: Runner) -> None:
        model = runner.model
        self._model = model.module if is_model_wrapper(model) else model
        self._terms, self._batches = {}, []
        self._watch_terms()
        self._watch_loss(runner)
        if not isinstance(runner.optim_wrapper, AmpOptimWrapper):
            self._watch_gradients(runner)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        counts = runner.optim_wrapper._accumulative_counts
        if runner.iter % counts == 0 or not self._batches:
            self._first = runner.iter
            self._batches = []
            self._buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        self._batches.append(list(_paths((data_batch or {}).get('data_samples'))))

    def _watch_terms(self) -> None:
        parse = self._model.parse_losses

        def parse_losses(losses: dict) -> tuple:
            # A detector may parse a part of its losses; the whole comes last.
            total, self._terms = parse(losses)
            return total, self._terms

        self._model.parse_losses = parse_losses

    def _watch_loss(self, runner: Runner) -> None:
        update = runner.optim_wrapper.update_params

        def update_params(loss: Tensor, *args, **kwargs) -> None:
            if _anywhere(~torch.isfinite(loss.detach())):
                terms = {name: value for name, value in self._terms.items() if name != 'loss'}
                self._stop(runner, dict(terms, loss=loss), self._batches[-1])
            update(loss, *args, **kwargs)

        runner.optim_wrapper.update_params = update_params

    def _watch_gradients(self, runner: Runner) -> None:
        step = runner.optim_wrapper.step

        def checked_step(**kwargs) -> None:
            grads = {
                f'the gradient of {name}': p.grad
                for name, p in self._model.named_parameters()
                if p.grad is not None
            }
            norm = nn.utils.get_total_norm(list(grads.values()))
            if _anywhere(~torch.isfinite(norm)):
                self._stop(
                    runner,
                    dict(grads, **{'the norm of all gradients': norm}),
                    sum(self._batches, []),
                )
            step(**kwargs)

        runner.optim_wrapper.step = checked_step

    def _stop(self, runner: Runner, values: dict[str, Tensor], images: list[str]) -> None:
        # Saving may fail on the process that saves; first the others are told.
        found = all_gather_object((_describe(values), images))
        where = '; '.join(
            f'{what} in process {rank}, of the images {", ".join(of_rank)}'
            for rank, (what, of_rank) in enumerate(found)
            if what
        )
        raise FloatingPointError(
            f'iteration {runner.iter + 1}: {where}. What was before it {self._save(runner)}'
        )

    def _save(self, runner: Runner) -> str:
        """Save what was before; returns where it is."""
        for name, buffer in self._model.named_buffers():
            buffer.copy_(self._buffers[name])
        path = Path(runner.work_dir) / f'invalid_loss_at_iter_{runner.iter + 1}.pth'
        done = self._first
        if not isinstance(runner.train_loop, IterBasedTrainLoop):
            # These go on at the start of an epoch.
            done = runner.epoch * len(runner.train_dataloader)
        try:
            runner.save_checkpoint(
                str(path.parent),
                path.name,
                by_epoch=False,
                meta=dict(iter=done, epoch=runner.epoch),
                backend_args=dict(backend='mmgwap.atomic'),
            )
        except OSError as error:
            return f'could not be saved: {error}'
        return f'is in {path}'


def _anywhere(invalid: Tensor) -> bool:
    """Whether something holds on any process; all have to ask.

    So all of them stop, and none waits for another.
    """
    invalid = invalid.float()
    all_reduce(invalid, 'max')
    return bool(invalid.item())


def _paths(samples: Any) -> Iterator[str]:
    """Of the images, in whatever lists and dicts a batch holds them."""
    if isinstance(samples, dict):
        samples = samples.values()
    elif isinstance(samples, BaseDataElement):
        yield samples.get('img_path', 'without a path')
        return
    if not isinstance(samples, (str, bytes, Tensor, type(None))):
        for sample in samples:
            yield from _paths(sample)


def _describe(values: dict[str, Tensor]) -> str:
    """Names of what is not finite, and the value of the first."""
    bad = [
        name
        for name, value in values.items()
        if isinstance(value, Tensor) and not torch.isfinite(value).all()
    ]
    # The sum is the last, and says no more than its terms.
    bad = bad[:-1] or bad
    if not bad:
        return ''
    value = values[bad[0]]
    kind = 'NaN' if value.isnan().any() else 'infinite'
    more = f', as are {len(bad) - 3} others' if len(bad) > 3 else ''
    return f'{", ".join(bad[:3])} {"are" if bad[1:] else "is"} {kind}{more}'
