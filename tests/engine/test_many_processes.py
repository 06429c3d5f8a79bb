"""Training in two and four processes: batches, order after a resume, accumulated gradients."""

import json

import pytest
import torch

from tests.models.conftest import build, multi_task
from tests.processes import launch
from tests.toy_data import tiny_rfcn_run

from .accumulated_steps import BATCHES, COUNTS, RATE, micro_batch


def launch_and_check(*args):
    for done in launch(*args):
        assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope='module')
def config(repo, tool, tmp_path_factory):
    """A config on 49 images, so that the last batches of an epoch are not full."""
    folder = tmp_path_factory.mktemp('many')
    make_digits = 'tools/dataset_converters/make_digits.py'
    tool(make_digits, '--out', folder / 'digits', '--train', 49, '--val', 2)
    path = folder / 'config.py'
    tiny_rfcn_run(repo / 'configs', folder / 'digits').dump(path)
    return path


@pytest.fixture(scope='module', params=[2, pytest.param(4, marks=pytest.mark.slow)])
def recorded(request, repo, config, tmp_path_factory):
    """Batches that each process has seen, ``recorded[loop][rank][run]``."""
    folder = tmp_path_factory.mktemp('images')
    launch_and_check(repo, request.param, 'tests.engine.many_processes', config, folder)
    return {
        loop: [
            json.loads((folder / f'{loop}_{rank}.json').read_text())
            for rank in range(request.param)
        ]
        for loop in ('iterations', 'epochs')
    }


@pytest.mark.parametrize('loop', ['iterations', 'epochs'])
def test_batches(recorded, loop):
    runs = recorded[loop]
    # Each batch of each process has one image with boxes and two without.
    for batches in runs:
        for batch in sum(batches.values(), []):
            assert [has_boxes for _, has_boxes in batch] == [True, False, False]
        assert batches['early'] and batches['resumed']
        assert batches['early'] + batches['resumed'] == batches['whole']
    steps = [sum(batches, []) for batches in zip(*(batches['whole'] for batches in runs))]
    # 25 images have boxes, 24 have not. An epoch ends when either kind runs out.
    length = min(25 // len(runs), 24 // (2 * len(runs)))
    assert len(steps) > length
    for start in range(0, len(steps), length):
        images = [image for image, _ in sum(steps[start : start + length], [])]
        assert len(set(images)) == len(images)
    boxed, others = (
        {image for image, has_boxes in sum(steps, []) if has_boxes == kind}
        for kind in (True, False)
    )
    assert not boxed & others


@pytest.fixture
def one_thread():
    """Use one thread, as the processes do: sums over two threads differ in the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_accumulated_gradients(repo, tmp_path, one_thread):
    """Gradients equal those of one process that sees all batches one after another."""
    launch_and_check(repo, 2, 'tests.engine.accumulated_steps', tmp_path / 'out.pth')
    trained = torch.load(tmp_path / 'out.pth')
    model = build(multi_task('rfcn'))
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    for first in range(0, len(BATCHES), COUNTS):
        model.zero_grad()
        for step in range(first, first + COUNTS):
            for rank in range(2):
                data = model.data_preprocessor(micro_batch(step, rank), True)
                loss, _ = model.parse_losses(model(**data, mode='loss'))
                # A process without boxed images counts in the mean as well.
                (loss / (2 * COUNTS)).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= RATE * p.grad
    for name, p in model.named_parameters():
        torch.testing.assert_close(trained[name], p, rtol=1e-4, atol=1e-6)
    moved = {name for name, value in start.items() if (trained[name] - value).abs().max() > 1e-4}
    for part in ('backbone', 'rpn_head', 'roi_head', 'cls_head'):
        assert any(part in name for name in moved), part
