"""NaN and infinity stop a run before they reach the weights."""

import math
import re

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.hooks import Hook
from mmengine.runner import find_latest_checkpoint

from mmgwap.engine.hooks.stop_at_invalid_loss_hook import _paths
from tests.processes import launch

from .conftest import differing, state_of

TERMS = ('loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox')


class Spoil(Hook):
    """Makes a term of the loss what it should not be, at an iteration."""

    priority = 'LOW'

    def __init__(self, term, value, at=2):
        self.term, self.value, self.at = term, value, at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.images = [one.img_path for one in data_batch['data_samples']]
        if runner.iter + 1 != self.at:
            return
        model = getattr(runner.model, 'module', runner.model)
        plain = model.loss

        def loss(*args, **kwargs):
            losses = plain(*args, **kwargs)
            value = losses[self.term]
            losses[self.term] = (
                [one * self.value for one in value]
                if isinstance(value, list)
                else value * self.value
            )
            return losses

        model.loss = loss


class SpoilGradient(Spoil):
    """Makes a gradient infinite; the loss is as it was."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.at:
            dict(runner.model.named_parameters())[self.term].register_hook(
                lambda grad: grad * self.value
            )


@pytest.mark.parametrize('term', TERMS)
@pytest.mark.parametrize('value, kind', [(math.nan, 'NaN'), (math.inf, '(infinite|NaN)')])
def test_stops_with_what_was_before(training, tmp_path, term, value, kind):
    whole = state_of(training(1, 'whole'))
    spoil = Spoil(term, value)
    with pytest.raises(FloatingPointError) as caught:
        training(4, hooks=[spoil])
    message = str(caught.value)
    path = tmp_path / 'run' / 'invalid_loss_at_iter_2.pth'
    assert message.startswith('iteration 2: ') and '\n' not in message
    assert f'{term} is ' in message and str(path) in message
    for other in set(TERMS) - {term}:
        assert other not in message
    for image in spoil.images:
        assert image in message
    state = torch.load(path, weights_only=True)
    assert state['meta']['iter'] == 1 and 'optimizer' in state
    for name, value in state['state_dict'].items():
        assert torch.equal(value, whole[f'model.{name}']), name
    # No checkpoint of a later state, and none that --resume would take.
    assert [one.name for one in path.parent.glob('*.pth')] == [path.name]
    assert find_latest_checkpoint(str(path.parent)) is None


def test_the_run_goes_on_from_it(training, tmp_path):
    whole = state_of(training(4, 'whole'))
    with pytest.raises(FloatingPointError):
        training(4, 'parts', hooks=[Spoil('loss_cls', math.nan, at=3)])
    path = tmp_path / 'parts' / 'invalid_loss_at_iter_3.pth'
    parts = state_of(training(4, 'parts', resume=True, load_from=str(path)))
    assert not differing(whole, parts)


@pytest.mark.parametrize('value, kind', [(math.nan, 'NaN'), (math.inf, 'infinite')])
def test_gradients(training, tmp_path, value, kind):
    name = 'roi_head.bbox_head.conv_new.weight'
    with pytest.raises(FloatingPointError) as caught:
        training(4, hooks=[SpoilGradient(name, value)])
    assert f'the gradient of {name} is {kind} in process 0' in str(caught.value)
    state = torch.load(tmp_path / 'run' / 'invalid_loss_at_iter_2.pth', weights_only=True)[
        'state_dict'
    ]
    assert all(torch.isfinite(one).all() for one in state.values() if one.is_floating_point())


def test_of_accumulated_gradients_all_images_are_named(training, tmp_path):
    """The iteration at fault is one of two, and both are repeated."""
    spoil = SpoilGradient('roi_head.bbox_head.conv_new.weight', math.nan, at=3)
    seen = Spoil('loss_cls', 1.0, at=0)  # spoils nothing
    with pytest.raises(FloatingPointError) as caught:
        training(6, hooks=[spoil, seen], **{'optim_wrapper.accumulative_counts': 2})
    message = str(caught.value)
    assert message.startswith('iteration 4: ')
    paths = message.split('of the images ')[1].split('. What')[0].split(', ')
    assert len(paths) == 8 and paths[4:] == seen.images
    path = tmp_path / 'run' / 'invalid_loss_at_iter_4.pth'
    assert torch.load(path, weights_only=True)['meta']['iter'] == 2


def test_it_is_told_even_if_nothing_can_be_saved(training, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mmgwap.engine.atomic_backend.os.fsync', full)
    with pytest.raises(
        FloatingPointError,
        match='iteration 1: loss_cls is NaN.* could not be saved: .*No space left on device',
    ):
        training(2, hooks=[Spoil('loss_cls', math.nan, at=1)])


def test_batches_of_several_branches():
    """As of semi-supervised detectors."""
    one, two = (DetDataSample(metainfo=dict(img_path=f'{name}.jpg')) for name in 'ab')
    assert list(_paths(dict(sup=[one], unsup=[None, [two]]))) == ['a.jpg', 'b.jpg']
    assert list(_paths(None)) == []
    assert list(_paths([DetDataSample()])) == ['without a path']


def test_epochs_go_on_at_their_start(training, tmp_path):
    with pytest.raises(FloatingPointError):
        training(
            0,
            hooks=[Spoil('loss_cls', math.nan, at=6)],
            **{
                'train_cfg': dict(type='EpochBasedTrainLoop', max_epochs=3),
                'train_dataloader.sampler.type': 'DefaultSampler',
                'default_hooks.checkpoint.by_epoch': True,
                'param_scheduler': None,
            },
        )
    meta = torch.load(tmp_path / 'run' / 'invalid_loss_at_iter_6.pth', weights_only=True)['meta']
    assert (meta['epoch'], meta['iter']) == (1, 4)


def test_a_good_run_is_as_without(training):
    one = state_of(training(3, 'with'))
    two = state_of(training(3, 'without', custom_hooks=[dict(type='mmgwap.ExactResumeHook')]))
    assert not differing(one, two)


def test_one_of_two_processes(repo, config, tmp_path):
    """Both stop, with the same message, of the one whose loss it is."""
    messages = []
    for done in launch(repo, 2, 'tests.engine.invalid_loss_steps', config, tmp_path):
        assert done.returncode == 1
        # torch puts the rank before it.
        messages += re.findall('FloatingPointError: (.*)', done.stderr)
    assert len(messages) == 2 and messages[0] == messages[1]
    assert 'process 1' in messages[0] and 'process 0' not in messages[0]
    state = torch.load(tmp_path / 'invalid_loss_at_iter_2.pth', weights_only=True)
    assert state['meta']['iter'] == 1
