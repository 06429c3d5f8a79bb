"""NaN and infinity stop a run before they reach the weights."""

import math
import re
from types import SimpleNamespace

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import find_latest_checkpoint
from torch.utils._python_dispatch import TorchDispatchMode

from mmgwap.engine.hooks import StopAtInvalidLossHook, stop_at_invalid_loss_hook
from mmgwap.engine.hooks.stop_at_invalid_loss_hook import _image_paths
from tests.checkpoints import read_checkpoint
from tests.processes import launch

from .conftest import EPOCHS, differing, state_of

TERMS = ('loss_cls', 'loss_bbox')
DETECTOR_TERMS = ('loss_rpn_cls', 'loss_rpn_bbox', *TERMS)


class ChangeLoss(Hook):
    """Change a term of the loss at one iteration, and record the images of the last batch."""

    priority = 'LOW'

    def __init__(self, term, change=lambda value: value * math.nan, iteration=2):
        self.term, self.change, self.iteration = term, change, iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.images = [sample.img_path for sample in data_batch['data_samples']]
        if runner.iter + 1 == self.iteration:
            model = getattr(runner.model, 'module', runner.model)
            compute_losses = model.loss
            model.loss = lambda *args, **kwargs: self.change_term(compute_losses(*args, **kwargs))

    def change_term(self, losses):
        value = losses[self.term]
        is_list = isinstance(value, list)
        changed = [self.change(part) for part in value] if is_list else self.change(value)
        return {**losses, self.term: changed}


class MultiplyGradient(Hook):
    """Multiply the gradient of ``conv.weight`` at one iteration; the loss stays finite."""

    def __init__(self, factor, iteration=2):
        self.factor, self.iteration = factor, iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration:
            runner.model.conv.weight.register_hook(lambda gradient: gradient * self.factor)


def check_stop(training, tmp_path, hook, terms, **changes):
    """The run stops at iteration 2 and saves the state after iteration 1."""
    whole = state_of(training(1, 'whole', **changes))
    with pytest.raises(FloatingPointError) as caught:
        training(4, hooks=[hook], **changes)
    message = str(caught.value)
    path = tmp_path / 'run' / 'invalid_loss_at_iter_2.pth'
    assert message.startswith(f'iteration 2: {hook.term} is ') and '\n' not in message
    assert str(path) in message
    for other in set(terms) - {hook.term}:
        assert other not in message
    assert all(image in message for image in hook.images)
    state = read_checkpoint(path)
    assert state['meta']['iter'] == 1 and 'optimizer' in state
    for name, value in state['state_dict'].items():
        assert torch.equal(value, whole[f'model.{name}']), name
    # --resume must not take this checkpoint, and no later state is saved.
    assert [checkpoint.name for checkpoint in path.parent.glob('*.pth')] == [path.name]
    assert find_latest_checkpoint(str(path.parent)) is None


@pytest.mark.parametrize('term, factor', [('loss_cls', math.nan), ('loss_bbox', math.inf)])
def test_saves_the_state_before_the_iteration(training, tmp_path, term, factor):
    check_stop(training, tmp_path, ChangeLoss(term, lambda value: value * factor), TERMS)


@pytest.mark.parametrize('mixed_precision', [False, True])
def test_stops_at_an_invalid_loss_with_finite_gradients(
    training, tmp_path, mixed_precision, monkeypatch
):
    if mixed_precision:  # AmpOptimWrapper itself needs a GPU
        monkeypatch.setattr(stop_at_invalid_loss_hook, 'AmpOptimWrapper', object)
    hook = ChangeLoss('loss_cls', lambda value: value + math.inf)  # a constant has no gradient
    check_stop(training, tmp_path, hook, TERMS)


@pytest.mark.slow
@pytest.mark.parametrize('term', DETECTOR_TERMS)
def test_terms_of_a_detector(training, tmp_path, term):
    check_stop(training, tmp_path, ChangeLoss(term), DETECTOR_TERMS, detector=True)


def test_run_continues_from_the_saved_state(training, tmp_path):
    whole = state_of(training(4, 'whole'))
    with pytest.raises(FloatingPointError):
        training(4, 'parts', hooks=[ChangeLoss('loss_cls', iteration=3)])
    path = tmp_path / 'parts' / 'invalid_loss_at_iter_3.pth'
    parts = state_of(training(4, 'parts', resume=True, load_from=str(path)))
    assert not differing(whole, parts)


@pytest.mark.parametrize('factor, kind', [(math.nan, 'NaN'), (math.inf, 'infinite')])
def test_stops_at_an_invalid_gradient(training, tmp_path, factor, kind):
    with pytest.raises(FloatingPointError) as caught:
        training(4, hooks=[MultiplyGradient(factor)])
    assert f'the gradient of conv.weight is {kind} in process 0' in str(caught.value)
    state = read_checkpoint(tmp_path / 'run' / 'invalid_loss_at_iter_2.pth')['state_dict']
    assert all(torch.isfinite(value).all() for value in state.values())


def test_mixed_precision_ignores_gradients(training, monkeypatch):
    monkeypatch.setattr(stop_at_invalid_loss_hook, 'AmpOptimWrapper', object)
    training(2, hooks=[MultiplyGradient(math.inf, iteration=2)])


def test_accumulated_gradients_name_all_images(training, tmp_path):
    """Iteration 3 is invalid, and iterations 3 and 4 have to be repeated."""
    gradient = MultiplyGradient(math.nan, iteration=3)
    recorder = ChangeLoss('loss_cls', iteration=0)
    with pytest.raises(FloatingPointError) as caught:
        training(6, hooks=[gradient, recorder], **{'optim_wrapper.accumulative_counts': 2})
    message = str(caught.value)
    assert message.startswith('iteration 4: ')
    paths = message.split('images: ')[1].split('. The')[0].split(', ')
    assert len(paths) == 8 and paths[4:] == recorder.images
    path = tmp_path / 'run' / 'invalid_loss_at_iter_4.pth'
    assert read_checkpoint(path)['meta']['iter'] == 2


def test_full_disk(training, monkeypatch):
    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mmgwap.engine.hooks.atomic_checkpoint_hook.os.fsync', fail)
    message = 'iteration 1: loss_cls is NaN.* could not be saved: .*No space left on device'
    with pytest.raises(FloatingPointError, match=message):
        training(2, hooks=[ChangeLoss('loss_cls', iteration=1)])


def test_image_paths_of_nested_batches():
    """Semi-supervised detectors have batches of several branches."""
    first, second = (DetDataSample(metainfo=dict(img_path=f'{name}.jpg')) for name in 'ab')
    assert list(_image_paths(dict(sup=[first], unsup=[None, [second]]))) == ['a.jpg', 'b.jpg']
    assert list(_image_paths(None)) == []
    assert list(_image_paths([DetDataSample()])) == ['without a path']


def test_epoch_based_loops_repeat_the_epoch(training, tmp_path):
    with pytest.raises(FloatingPointError):
        training(0, hooks=[ChangeLoss('loss_cls', iteration=6)], **EPOCHS)
    meta = read_checkpoint(tmp_path / 'run' / 'invalid_loss_at_iter_6.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (1, 4)


def test_valid_runs_are_not_changed(training):
    with_hook = state_of(training(3, 'with'))
    hooks = [dict(type='mmgwap.ExactResumeHook')]
    assert not differing(with_hook, state_of(training(3, 'without', custom_hooks=hooks)))


class CountItems(TorchDispatchMode):
    """Count the values that the CPU reads from tensors."""

    items = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.items += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_one_synchronization_per_iteration():
    model = torch.nn.Linear(2, 3)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1))
    StopAtInvalidLossHook().before_train(SimpleNamespace(model=model, optim_wrapper=wrapper))
    for _ in range(2):
        loss = model(torch.rand(1, 2)).sum()
        with CountItems() as mode:
            wrapper.backward(loss)
        assert mode.items == 1


def test_invalid_loss_on_one_of_two_processes(repo, config, tmp_path):
    """Both processes stop with the same message, which names the second process only."""
    messages = []
    for done in launch(repo, 2, 'tests.engine.invalid_loss_steps', config, tmp_path):
        assert done.returncode == 1
        # torch puts the rank in front of the message.
        messages += re.findall('FloatingPointError: (.*)', done.stderr)
    assert len(messages) == 2 and messages[0] == messages[1]
    assert 'loss_cls is NaN in process 1' in messages[0] and 'process 0' not in messages[0]
    assert read_checkpoint(tmp_path / 'invalid_loss_at_iter_2.pth')['meta']['iter'] == 1
