"""Checkpoints that a killed process or a full disk cannot damage."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Optional, Union
from unittest import mock

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner, find_latest_checkpoint

from mmgwap.checkpoint import allow_training_state
from mmgwap.registry import HOOKS


class AllowTrainingStateHook(Hook):
    """Base class of hooks that let a runner read its checkpoint without arbitrary unpickling.

    mmengine reads ``resume`` and ``load_from`` checkpoints between ``before_run`` and
    ``before_train``, ``before_val`` or ``before_test``. Training state is allowed in that time,
    see :func:`mmgwap.checkpoint.allow_training_state`.
    """

    _loading = ExitStack()  # closed: a runner may load a checkpoint outside of a run

    def before_run(self, runner: Runner) -> None:
        super().before_run(runner)
        self._loading = ExitStack()
        self._loading.enter_context(allow_training_state())

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._loading.close()

    def before_train(self, runner: Runner) -> None:
        self._loading.close()
        super().before_train(runner)

    def before_val(self, runner: Runner) -> None:
        self._loading.close()

    def before_test(self, runner: Runner) -> None:
        self._loading.close()


@HOOKS.register_module()
class AtomicCheckpointHook(AllowTrainingStateHook, CheckpointHook):
    """mmengine's ``CheckpointHook`` for runs that may be killed at any time.

    mmengine removes an outdated checkpoint before it writes the next checkpoint, and writes the
    file in place. This hook writes a checkpoint beside its final path and moves it there, then
    updates ``last_checkpoint`` in the same way, and then removes the outdated checkpoint.
    ``--resume`` therefore always finds a complete checkpoint.

    Takes the arguments of ``CheckpointHook``. An ``out_dir`` or ``backend_args`` of a storage
    other than local files is written by that storage.

    Raises:
        RuntimeError: if a checkpoint cannot be written, with the cause and the last complete
            checkpoint.
    """

    def before_train(self, runner: Runner) -> None:
        out_dir = str(self.out_dir or runner.work_dir)
        if not (self.backend_args or self.file_client_args or '://' in out_dir):
            self.backend_args = dict(backend='mmgwap.atomic')
        super().before_train(runner)

    def after_train(self, runner: Runner) -> None:
        # With `published_keys`, mmengine reads the last checkpoint again.
        with allow_training_state():
            super().after_train(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = self._keep(runner, step)
        self.last_ckpt = self._path(step)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        with _name_complete_checkpoint(runner):
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
                pointer = Path(runner.work_dir) / 'last_checkpoint'
                AtomicLocalBackend().put_text(self.last_ckpt, pointer)
        # A filename_tmpl without the step gives all checkpoints the same path.
        if outdated is not None and is_main_process() and self._path(outdated) != self.last_ckpt:
            self._remove(self._path(outdated))

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    def _keep(self, runner: Runner, step: int) -> Optional[int]:
        """Add a step to the list of checkpoints to keep, and return the step that drops out."""
        # Validation saves the checkpoint of the same step again.
        if self.max_keep_ckpts <= 0 or step in self.keep_ckpt_ids:
            return None
        is_full = len(self.keep_ckpt_ids) == self.max_keep_ckpts
        outdated = self.keep_ckpt_ids.popleft() if is_full else None
        self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        return outdated

    def _remove(self, path: str) -> None:
        # Checkpoints of DeepSpeed are folders.
        if self.file_backend.isdir(path):
            self.file_backend.rmtree(path)
        elif self.file_backend.isfile(path):
            self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        # mmengine removes the previous best checkpoint first; here its path is only collected.
        outdated = []
        collect = mock.patch.object(self.file_backend, 'remove', outdated.append)
        with collect, _name_complete_checkpoint(runner):
            super()._save_best_checkpoint(runner, metrics)
        best = {
            getattr(self, 'best_ckpt_path', None),
            *getattr(self, 'best_ckpt_path_dict', {}).values(),
        }
        for path in set(outdated) - best:
            self._remove(path)


class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, written beside their final path and then moved there.

    A process that is killed while it writes, or a full disk, leaves the previous file intact.
    The temporary file ``NAME.tmp`` is overwritten by the next attempt.

    Raises:
        OSError: as raised by ``open`` and ``write``.
    """

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        filepath = Path(filepath)
        filepath.parent.mkdir(parents=True, exist_ok=True)
        temporary = filepath.with_name(f'{filepath.name}.tmp')
        try:
            with open(temporary, 'wb') as file:
                file.write(obj)
                file.flush()
                # Write the content to the disk before the file gets its final name.
                os.fsync(file.fileno())
            os.replace(temporary, filepath)
        except OSError:
            # Free the space of the incomplete file.
            with suppress(OSError):
                temporary.unlink()
            raise

    def put_text(self, obj: str, filepath: Union[str, Path], encoding: str = 'utf-8') -> None:
        self.put(obj.encode(encoding), filepath)


register_backend('mmgwap.atomic', AtomicLocalBackend, force=True)


@contextmanager
def _name_complete_checkpoint(runner: Runner) -> Iterator[None]:
    """Add the path of the last complete checkpoint to an error of the storage."""
    try:
        yield
    except OSError as error:
        latest = find_latest_checkpoint(runner.work_dir)
        advice = (
            f'{latest} is complete, continue from it with --resume'
            if latest
            else 'no earlier checkpoint exists'
        )
        raise RuntimeError(
            f'cannot save a checkpoint of {runner.work_dir}: {error.strerror or error}; {advice}'
        ) from error
