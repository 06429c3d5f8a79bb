"""Runs that end the same, however often they are interrupted."""

import logging
from functools import partial
from typing import Any, Callable, Optional

from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import BatchSampler

from mmgwap.engine.exact_batches import exact_loader
from mmgwap.engine.randomness import DATA, STEP, WORKER, seed_all
from mmgwap.registry import HOOKS


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """A resumed run goes on with the batches and the random numbers of a run
    that was never interrupted.

    mmengine's checkpoints hold weights and optimizer, but no state of random
    generators; and where the seed is drawn at the start, a resumed run shuffles
    by another.  With this hook every number follows from the seed, the rank of
    the process and the iteration, so nothing has to be saved: the same seed
    gives the same weights, to the last bit where the operators are
    deterministic, as on CPU.

    Iteration-based loops go on in the middle of an epoch of the data, without
    reading again what was trained on.  Epoch-based loops go on at the start of
    an epoch, where mmengine's checkpoints are made.

    The number of processes must stay the same, since the images are shared out
    among them; a warning tells of another.  A ``train_dataloader`` that is no
    config keeps its sampler's seed.
    """

    priority = 'VERY_HIGH'
    _processes = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['meta']['world_size'] = runner.world_size

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._processes = checkpoint.get('meta', {}).get('world_size')

    def before_train(self, runner: Runner) -> None:
        _check_accumulation(runner)
        if runner.iter and self._processes not in (None, runner.world_size):
            print_log(
                f'the run was saved by {self._processes} processes and goes on '
                f'with {runner.world_size}: images are shared out otherwise, '
                'so some come twice in this epoch and others not at all',
                'current',
                logging.WARNING,
            )
        self.seed = runner.seed
        if runner.cfg.get('randomness', {}).get('diff_rank_seed'):
            self.seed -= runner.rank
        self._start_worker = runner.train_dataloader.worker_init_fn

    def before_train_epoch(self, runner: Runner) -> None:
        loop = runner.train_loop
        # Ends workers that read ahead, or would live on with their numbers.
        loop.dataloader._iterator = None
        if isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = _Batches(
                loop, _batch_sampler(runner, self.seed), self.seed, runner.rank, DATA
            )
            return
        # These begin anew in each epoch, and need nothing but the seed.
        if isinstance(runner.cfg.get('train_dataloader'), dict):
            loop.dataloader.batch_sampler.sampler.seed = self.seed
        stream = self.seed, runner.rank, WORKER, runner.epoch
        seed_all(*stream)
        loop.dataloader.worker_init_fn = partial(
            _start_worker, first=self._start_worker, stream=stream
        )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        seed_all(self.seed, runner.rank, STEP, runner.iter)


class _Batches:
    """Stands for mmengine's iterator of an ``IterBasedTrainLoop``."""

    def __init__(self, loop: IterBasedTrainLoop, batch_sampler: Any, *stream: int) -> None:
        # mmengine either asks the iterator to skip what was trained on, or
        # reads it and drops it, which need not be read here.
        reads = not hasattr(loop.dataloader_iterator, 'skip_iter') and not getattr(
            loop, 'fast_forward_on_resume', False
        )
        self._dropped = loop.iter if reads else 0
        self._batches = None
        self._loader = exact_loader(loop.dataloader, batch_sampler, loop.iter, *stream)

    def skip_iter(self, count: int) -> None:
        """The batches begin behind those already."""

    def __iter__(self) -> '_Batches':
        return self

    def __next__(self) -> Any:
        if self._dropped:
            self._dropped -= 1
            return None
        if self._batches is None:
            self._batches = iter(self._loader)
        return next(self._batches)


def _batch_sampler(runner: Runner, seed: int) -> Any:
    """A fresh one, as the loader's.

    mmengine learns the seed of a resumed run after it has made the sampler,
    and may have begun to read.
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


def _start_worker(worker_id: int, first: Optional[Callable], stream: tuple) -> None:
    if first is not None:
        first(worker_id)
    # A last 0 would be the stream of the process itself.
    seed_all(*stream, worker_id + 1)


def _check_accumulation(runner: Runner) -> None:
    """Warn of checkpoints between two steps of the optimizer."""
    counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook) or hook.interval < 1:
            continue
        between = hook.interval
        if hook.by_epoch:
            between *= len(runner.train_dataloader)
        if between % counts:
            print_log(
                f'gradients are accumulated over {counts} iterations, and a '
                f'checkpoint each {between} loses a part of them if the run '
                'goes on from it; make the interval a multiple of '
                f'{counts}',
                'current',
                logging.WARNING,
            )
