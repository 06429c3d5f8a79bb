"""Resumed runs equal uninterrupted runs bit for bit."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger

from mmgwap.datasets import CheckedCocoDataset
from tests.checkpoints import read_checkpoint

from .conftest import EPOCHS, differing, state_of


class RecordImages(Hook):
    def __init__(self):
        self.images = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.images.append([sample.img_id for sample in data_batch['data_samples']])


def images_of(training, *args, **kwargs):
    hook = RecordImages()
    runner = training(*args, hooks=[hook], **kwargs)
    return hook.images, runner


def differing_after_a_resume(training, **changes):
    """Names of weights that differ between a whole run and a resumed run."""
    whole = state_of(training(5, 'whole', **changes))
    training(2, 'parts', **changes)
    return differing(whole, state_of(training(5, 'parts', resume=True, **changes)))


@pytest.mark.parametrize('workers, partial', [(0, False), (2, True)])
def test_weights_equal_those_of_an_uninterrupted_run(training, workers, partial):
    changes = {'partial': partial, 'train_dataloader.num_workers': workers}
    assert not differing_after_a_resume(training, **changes)


@pytest.mark.slow
@pytest.mark.parametrize('workers, partial', [(0, True), (2, False)])
def test_weights_of_a_detector_equal_those_of_an_uninterrupted_run(training, workers, partial):
    changes = {'partial': partial, 'train_dataloader.num_workers': workers}
    assert not differing_after_a_resume(training, detector=True, **changes)


def test_weights_differ_without_the_hook(training):
    assert differing_after_a_resume(training, custom_hooks=[dict(type='NumClassCheckHook')])


def test_number_of_workers_does_not_matter(training):
    first, second = (
        state_of(training(3, f'{count}', **{'train_dataloader.num_workers': count}))
        for count in (0, 2)
    )
    assert not differing(first, second)


@pytest.mark.parametrize(
    'changes, randomness',
    [
        (dict(), dict(seed=None)),
        (dict(partial=True), dict(seed=3, diff_rank_seed=True)),
        ({'train_dataloader.batch_sampler': dict(type='AspectRatioBatchSampler')}, dict(seed=3)),
        ({'train_dataloader.sampler.type': 'DefaultSampler'}, dict(seed=None)),
    ],
    ids=repr,
)
def test_order_of_images_over_several_epochs(training, changes, randomness):
    """The order is the same even if the seed is drawn."""
    changes = dict(changes, randomness=randomness, **{'default_hooks.checkpoint.interval': 5})
    first, _ = images_of(training, 5, 'parts', **changes)
    second, runner = images_of(training, 9, 'parts', resume=True, **changes)
    changes['randomness'] = dict(randomness, seed=runner.seed)
    whole, _ = images_of(training, 9, 'whole', **changes)
    assert first + second == whole and len(whole) == 9
    changes['randomness'] = dict(seed=runner.seed + 1)
    assert images_of(training, 9, 'other', **changes)[0] != whole


@pytest.mark.parametrize('workers, persistent', [(0, False), (1, False), (1, True)])
def test_epoch_based_loops(training, workers, persistent):
    changes = {
        **EPOCHS,
        'train_dataloader.num_workers': workers,
        'train_dataloader.persistent_workers': persistent,
    }
    whole = state_of(training(0, 'whole', **changes))
    training(0, 'parts', **{**changes, 'train_cfg': dict(changes['train_cfg'], max_epochs=1)})
    parts = state_of(training(0, 'parts', resume=True, **changes))
    assert not differing(whole, parts)


def test_iterations_draw_different_numbers(training):
    class Draw(Hook):
        drawn = []

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            self.drawn.append(torch.rand(()).item())

    training(4, hooks=[Draw()])
    assert len(set(Draw.drawn)) == 4


@pytest.fixture
def warnings_of(training, monkeypatch):
    """Warnings that a training logs."""

    def run(*args, **kwargs):
        messages = []
        with monkeypatch.context() as patch:
            patch.setattr(MMLogger, 'warning', lambda self, text, *args: messages.append(text))
            training(*args, **kwargs)
        return '\n'.join(messages)

    return run


@pytest.mark.parametrize('processes', [1, 8])
def test_changed_number_of_processes_is_warned_about(training, warnings_of, tmp_path, processes):
    training(2)
    path = tmp_path / 'run' / 'iter_2.pth'
    state = read_checkpoint(path)
    assert state['meta']['world_size'] == 1
    state['meta']['world_size'] = processes
    torch.save(state, path)
    assert ('saved by 8 processes' in warnings_of(3, resume=True)) == (processes == 8)


def test_earlier_batches_are_not_read_again(training, monkeypatch):
    training(4, 'parts')
    read = []
    load = CheckedCocoDataset.__getitem__
    monkeypatch.setattr(
        CheckedCocoDataset,
        '__getitem__',
        lambda self, idx: (self.test_mode or read.append(idx), load(self, idx))[1],
    )
    training(5, 'parts', resume=True)
    assert len(read) == 4  # images of one batch


@pytest.mark.parametrize('changes', [dict(), EPOCHS], ids=['iterations', 'epochs'])
def test_checkpoints_between_optimizer_steps_are_warned_about(warnings_of, changes):
    """A checkpoint is saved every 2 iterations, or every epoch of 4 iterations."""
    for counts, warns in ((2, False), (3, True)):
        text = warnings_of(1, **changes, **{'optim_wrapper.accumulative_counts': counts})
        assert (f'multiple of {counts}' in text) == warns
