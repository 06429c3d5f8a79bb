"""Interrupted runs end as others do, to the last bit."""

import pytest
import torch
from mmengine.hooks import Hook

from mmgwap.datasets import CheckedCocoDataset

from .conftest import differing, state_of

NO_HOOK = dict(custom_hooks=[dict(type='NumClassCheckHook')])
EPOCHS = {
    'train_cfg': dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=1000),
    'train_dataloader.sampler.type': 'DefaultSampler',
    'default_hooks.checkpoint.by_epoch': True,
    'default_hooks.checkpoint.interval': 1,
    'param_scheduler': None,
}


class Images(Hook):
    """Notes which images each iteration sees."""

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append([sample.img_id for sample in data_batch['data_samples']])


def images_of(training, *args, **kwargs):
    hook = Images()
    runner = training(*args, hooks=[hook], **kwargs)
    return hook.seen, runner


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('partial', [False, True])
def test_weights_are_those_of_an_uninterrupted_run(training, workers, partial):
    changes = {'train_dataloader.num_workers': workers, 'partial': partial}
    whole = state_of(training(5, 'whole', **changes))
    training(2, 'parts', **changes)
    parts = state_of(training(5, 'parts', resume=True, **changes))
    assert not differing(whole, parts)


def test_without_the_hook_they_are_others(training):
    whole = state_of(training(4, 'whole', **NO_HOOK))
    training(2, 'parts', **NO_HOOK)
    parts = state_of(training(4, 'parts', resume=True, **NO_HOOK))
    assert differing(whole, parts)


def test_the_number_of_workers_changes_nothing(training):
    one, two = (
        state_of(training(3, f'{count}', **{'train_dataloader.num_workers': count}))
        for count in (0, 2)
    )
    assert not differing(one, two)


@pytest.mark.parametrize(
    'changes, randomness',
    [
        (dict(), dict(seed=3)),
        (dict(), dict(seed=None)),
        (dict(partial=True), dict(seed=None)),
        (dict(partial=True), dict(seed=3, diff_rank_seed=True)),
        ({'train_dataloader.batch_sampler': dict(type='AspectRatioBatchSampler')}, dict(seed=3)),
        ({'train_dataloader.sampler.type': 'DefaultSampler'}, dict(seed=None)),
    ],
    ids=repr,
)
def test_the_same_images_in_the_same_order(training, changes, randomness):
    """Even if nobody chose the seed, over several epochs."""
    changes = dict(changes, randomness=randomness, **{'default_hooks.checkpoint.interval': 5})
    first, _ = images_of(training, 5, 'parts', **changes)
    then, runner = images_of(training, 9, 'parts', resume=True, **changes)
    whole, _ = images_of(
        training, 9, 'whole', **dict(changes, randomness=dict(randomness, seed=runner.seed))
    )
    assert first + then == whole and len(whole) == 9
    # The order is a random one.
    other, _ = images_of(
        training, 9, 'other', **dict(changes, randomness=dict(seed=runner.seed + 1))
    )
    assert other != whole


@pytest.mark.parametrize('workers, persistent', [(0, False), (1, False), (1, True)])
def test_epochs(training, workers, persistent):
    changes = {
        **EPOCHS,
        'train_dataloader.num_workers': workers,
        'train_dataloader.persistent_workers': persistent,
    }
    whole = state_of(training(0, 'whole', **changes))
    shorter = dict(changes['train_cfg'], max_epochs=1)
    training(0, 'parts', **{**changes, 'train_cfg': shorter})
    parts = state_of(training(0, 'parts', resume=True, **changes))
    assert not differing(whole, parts)


def test_each_iteration_draws_its_own_numbers(training):
    """Of steps and batches, on no two ranks the same."""

    class Draws(Hook):
        seen = []

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            self.seen.append(torch.rand(()).item())

    training(4, hooks=[Draws()])
    assert len(set(Draws.seen)) == 4


@pytest.mark.parametrize('processes, warned', [(1, False), (8, True)])
def test_another_number_of_processes_is_told(training, tmp_path, processes, warned, monkeypatch):
    training(2)
    path = tmp_path / 'run' / 'iter_2.pth'
    state = torch.load(path, weights_only=True)
    assert state['meta']['world_size'] == 1
    state['meta']['world_size'] = processes
    torch.save(state, path)
    messages = []
    monkeypatch.setattr(
        'mmgwap.engine.hooks.exact_resume_hook.print_log', lambda text, *_: messages.append(text)
    )
    training(3, resume=True)
    assert ['saved by 8 processes' in text for text in messages] == [True] * warned


def test_trained_batches_are_not_read_again(training, monkeypatch):
    training(4, 'parts')
    read = []
    plain = CheckedCocoDataset.prepare_data
    monkeypatch.setattr(
        CheckedCocoDataset,
        'prepare_data',
        lambda self, idx: (self.test_mode or read.append(idx), plain(self, idx))[1],
    )
    training(5, 'parts', resume=True)
    assert len(read) == 4  # images of one batch


@pytest.mark.parametrize(
    'changes, counts, warned',
    [
        (dict(), 2, False),
        (dict(), 3, True),
        # Of four batches.
        (EPOCHS, 2, False),
        (EPOCHS, 3, True),
    ],
)
def test_checkpoints_between_steps_are_warned_of(training, changes, counts, warned, monkeypatch):
    messages = []
    monkeypatch.setattr(
        'mmgwap.engine.hooks.exact_resume_hook.print_log', lambda text, *_: messages.append(text)
    )
    training(1, **changes, **{'optim_wrapper.accumulative_counts': counts})
    assert [f'multiple of {counts}' in text for text in messages] == [True] * warned
