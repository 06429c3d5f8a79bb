"""Resumed runs that give the same weights as uninterrupted runs."""

from functools import partial
from typing import Any, Callable, Optional

from mmengine.hooks import CheckpointHook
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import BatchSampler

from mmgwap.engine.seeded_batches import DATA, STEP, WORKER, seed_all, seeded_loader
from mmgwap.registry import HOOKS

from .atomic_checkpoint_hook import AllowTrainingStateHook


@HOOKS.register_module()
class ExactResumeHook(AllowTrainingStateHook):
    """Resume a run with the batches and random numbers of an uninterrupted run.

    Checkpoints of mmengine hold weights and optimizer state, but no state of the random number
    generators. If the seed is drawn at the start, a resumed run also shuffles by another seed.
    This hook derives all random numbers from the seed, the rank and the iteration, so no state
    has to be saved. The same seed gives the same weights, bit for bit if the operators are
    deterministic, as on CPU.

    Iteration-based loops continue in the middle of an epoch without reading earlier batches
    again. Epoch-based loops continue at the start of an epoch, where mmengine saves checkpoints.

    The number of processes must stay the same, since the images are divided among them; the hook
    warns if it changes. A ``train_dataloader`` that is not a config keeps the seed of its
    sampler.
    """

    priority = 'VERY_HIGH'
    _saved_world_size = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['meta']['world_size'] = runner.world_size

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        super().after_load_checkpoint(runner, checkpoint)
        self._saved_world_size = checkpoint.get('meta', {}).get('world_size')

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        _check_accumulation(runner)
        if runner.iter and self._saved_world_size not in (None, runner.world_size):
            runner.logger.warning(
                f'the checkpoint was saved by {self._saved_world_size} processes and is resumed '
                f'by {runner.world_size}: the images are divided differently, so that some images '
                'occur twice in this epoch and others do not occur'
            )
        self.seed = runner.seed
        if runner.cfg.get('randomness', {}).get('diff_rank_seed'):
            self.seed -= runner.rank
        self._worker_init_fn = runner.train_dataloader.worker_init_fn

    def before_train_epoch(self, runner: Runner) -> None:
        loop = runner.train_loop
        # End the workers, which may have read ahead or may keep their random state.
        loop.dataloader._iterator = None
        if isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = _BatchIterator(
                loop, _make_batch_sampler(runner, self.seed), self.seed, runner.rank, DATA
            )
            return
        # Epochs start from the first batch, so seeding the sampler and the workers is enough.
        if isinstance(runner.cfg.get('train_dataloader'), dict):
            loop.dataloader.batch_sampler.sampler.seed = self.seed
        stream = self.seed, runner.rank, WORKER, runner.epoch
        seed_all(*stream)
        loop.dataloader.worker_init_fn = partial(
            _init_worker, worker_init_fn=self._worker_init_fn, stream=stream
        )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        seed_all(self.seed, runner.rank, STEP, runner.iter)


class _BatchIterator:
    """Replacement for the iterator of an ``IterBasedTrainLoop``."""

    def __init__(self, loop: IterBasedTrainLoop, batch_sampler: Any, *stream: int) -> None:
        # To skip the batches before the resumed iteration, mmengine calls skip_iter or reads the
        # batches and drops them. Dropped batches are not read here.
        drops_batches = not hasattr(loop.dataloader_iterator, 'skip_iter') and not getattr(
            loop, 'fast_forward_on_resume', False
        )
        self._num_dropped = loop.iter if drops_batches else 0
        self._batches = None
        self._loader = seeded_loader(loop.dataloader, batch_sampler, loop.iter, *stream)

    def skip_iter(self, count: int) -> None:
        """Do nothing: the loader begins at the resumed iteration already."""

    def __iter__(self) -> '_BatchIterator':
        return self

    def __next__(self) -> Any:
        if self._num_dropped:
            self._num_dropped -= 1
            return None
        if self._batches is None:
            self._batches = iter(self._loader)
        return next(self._batches)


def _make_batch_sampler(runner: Runner, seed: int) -> Any:
    """Build a batch sampler like the loader's, but with the seed of the run.

    mmengine makes its sampler before it reads the seed of a resumed run, and may have started to
    iterate over it.
    """
    loader, config = runner.train_dataloader, runner.cfg.get('train_dataloader')
    if not isinstance(config, dict) or not isinstance(config.sampler, dict):
        return loader.batch_sampler
    sampler = DATA_SAMPLERS.build(
        config.sampler, default_args=dict(dataset=loader.dataset, seed=seed)
    )
    if not config.get('batch_sampler'):
        return BatchSampler(sampler, loader.batch_size, loader.drop_last)
    return DATA_SAMPLERS.build(
        config.batch_sampler, default_args=dict(sampler=sampler, batch_size=config.batch_size)
    )


def _init_worker(worker_id: int, worker_init_fn: Optional[Callable], stream: tuple) -> None:
    if worker_init_fn is not None:
        worker_init_fn(worker_id)
    # A trailing 0 would give the stream of the main process.
    seed_all(*stream, worker_id + 1)


def _check_accumulation(runner: Runner) -> None:
    """Warn about checkpoints that are saved between two steps of the optimizer."""
    counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook) or hook.interval < 1:
            continue
        interval = hook.interval
        if hook.by_epoch:
            interval *= len(runner.train_dataloader)
        if interval % counts:
            runner.logger.warning(
                f'accumulative_counts={counts} and a checkpoint every {interval} iterations: '
                'resuming from a checkpoint between two optimizer steps loses gradients; make '
                f'the checkpoint interval a multiple of {counts}'
            )
