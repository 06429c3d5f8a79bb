"""Checkpoints that a killed process or a full disk can't spoil."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional
from unittest import mock

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner, find_latest_checkpoint

from mmgwap.engine.atomic_backend import AtomicLocalBackend
from mmgwap.registry import HOOKS


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, at each moment of which a run can end.

    mmengine removes an outdated checkpoint before it writes the next, and
    writes in place.  Here a checkpoint is written beside its place, then moved
    there; then ``last_checkpoint`` is made to name it, likewise; then the
    outdated one is removed.  So whatever ``--resume`` finds is whole.

    Takes the arguments of ``CheckpointHook``.  With an ``out_dir`` or
    ``backend_args`` of another storage than local files, writing is up to that
    storage.

    Raises:
        RuntimeError: if a checkpoint can't be written: which, why, and which
            one is whole.
    """

    def before_train(self, runner: Runner) -> None:
        out_dir = str(self.out_dir or runner.work_dir)
        if not (self.backend_args or self.file_client_args or '://' in out_dir):
            self.backend_args = dict(backend='mmgwap.atomic')
        super().before_train(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = self._keep(runner, step)
        self.last_ckpt = self._path(step)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        with _telling(runner):
            runner.save_checkpoint(
                self.out_dir,
                Path(self.last_ckpt).name,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            if is_main_process():
                AtomicLocalBackend().put_text(
                    self.last_ckpt, Path(runner.work_dir) / 'last_checkpoint'
                )
        # A filename_tmpl need not hold the step.
        if outdated is not None and is_main_process() and self._path(outdated) != self.last_ckpt:
            self._remove(self._path(outdated))

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    def _keep(self, runner: Runner, step: int) -> Optional[int]:
        """List a checkpoint among those to keep; returns an outdated one."""
        # Validation saves the checkpoint of the same step again.
        if self.max_keep_ckpts <= 0 or step in self.keep_ckpt_ids:
            return None
        full = len(self.keep_ckpt_ids) == self.max_keep_ckpts
        outdated = self.keep_ckpt_ids.popleft() if full else None
        self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        return outdated

    def _remove(self, path: str) -> None:
        # Those of DeepSpeed are folders.
        if self.file_backend.isdir(path):
            self.file_backend.rmtree(path)
        elif self.file_backend.isfile(path):
            self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        outdated = []
        with mock.patch.object(self.file_backend, 'remove', outdated.append), _telling(runner):
            super()._save_best_checkpoint(runner, metrics)
        best = {
            getattr(self, 'best_ckpt_path', None),
            *getattr(self, 'best_ckpt_path_dict', {}).values(),
        }
        for path in set(outdated) - best:
            self._remove(path)


@contextmanager
def _telling(runner: Runner) -> Iterator[None]:
    """Add to an error of storage which checkpoint is whole."""
    try:
        yield
    except OSError as error:
        whole = find_latest_checkpoint(runner.work_dir)
        rest = (
            f'{whole} is whole, and --resume goes on from it'
            if whole
            else 'there is no earlier one'
        )
        raise RuntimeError(
            f'cannot save a checkpoint of {runner.work_dir}: {error.strerror or error}; {rest}'
        ) from error
