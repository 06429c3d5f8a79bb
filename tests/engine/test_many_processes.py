"""Two and four processes: batches, order after a resume, accumulation."""

import json

import pytest
import torch

from tests.checkpoints import read_checkpoint
from tests.models.conftest import build, multi_task
from tests.processes import launch
from tests.toy_data import tiny_rfcn_run

from .accumulated_steps import BATCHES, COUNTS, RATE, micro_batch


def succeed(*args):
    for done in launch(*args):
        assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope='module')
def config(repo, tool, tmp_path_factory):
    """On 49 images, so that neither kind fills its last batch."""
    folder = tmp_path_factory.mktemp('many')
    tool(
        'tools/dataset_converters/make_digits.py',
        '--out',
        folder / 'digits',
        '--train',
        '49',
        '--val',
        '2',
    )
    path = folder / 'config.py'
    tiny_rfcn_run(repo / 'configs', folder / 'digits').dump(path)
    return path


@pytest.fixture(scope='module', params=[2, 4])
def seen(request, repo, config, tmp_path_factory):
    """What each process saw, ``seen[kind][rank][run]``."""
    folder = tmp_path_factory.mktemp('seen')
    succeed(repo, request.param, 'tests.engine.many_processes', config, folder)
    return {
        kind: [
            json.loads((folder / f'{kind}_{rank}.json').read_text())
            for rank in range(request.param)
        ]
        for kind in ('endless', 'epochs')
    }


@pytest.mark.parametrize('kind', ['endless', 'epochs'])
class TestBatches:
    def test_the_share_of_boxed_images_is_that_of_each_process(self, seen, kind):
        for of_rank in seen[kind]:
            for batch in sum(of_rank.values(), []):
                assert [has_boxes for _, has_boxes in batch] == [True, False, False]

    def test_no_image_twice_in_an_epoch(self, seen, kind):
        ranks = [of_rank['whole'] for of_rank in seen[kind]]
        boxed, others = (
            {
                image
                for of_rank in ranks
                for batch in of_rank
                for image, has_boxes in batch
                if has_boxes == which
            }
            for which in (True, False)
        )
        # 25 images keep their boxes, 24 don't; an epoch ends with the first
        # kind to run out.
        length = min(25 // len(ranks), 24 // (2 * len(ranks)))
        for start in range(0, len(ranks[0]), length):
            images = [
                image
                for of_rank in ranks
                for batch in of_rank[start : start + length]
                for image, _ in batch
            ]
            assert len(set(images)) == len(images)
        assert not boxed & others and len(ranks[0]) > length

    def test_processes_see_different_images(self, seen, kind):
        for batches in zip(*(of_rank['whole'] for of_rank in seen[kind])):
            images = [image for batch in batches for image, _ in batch]
            assert len(set(images)) == 3 * len(seen[kind])

    def test_the_same_order_after_a_resume(self, seen, kind):
        for of_rank in seen[kind]:
            assert of_rank['early'] and of_rank['resumed']
            assert of_rank['early'] + of_rank['resumed'] == of_rank['whole']


@pytest.fixture
def one_thread():
    """As the processes have; of two, sums differ in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_accumulated_gradients(repo, tmp_path, one_thread):
    """As one process gets them that sees all batches, image by image."""
    succeed(repo, 2, 'tests.engine.accumulated_steps', tmp_path / 'out.pth')
    trained = read_checkpoint(tmp_path / 'out.pth')
    model = build(multi_task('rfcn'))
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    for first in range(0, len(BATCHES), COUNTS):
        model.zero_grad()
        for step in range(first, first + COUNTS):
            for rank in range(2):
                data = model.data_preprocessor(micro_batch(step, rank), True)
                loss, _ = model.parse_losses(model(**data, mode='loss'))
                # A process without boxes counts in the mean all the same.
                (loss / (2 * COUNTS)).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= RATE * p.grad
    for name, p in model.named_parameters():
        torch.testing.assert_close(trained[name], p, rtol=1e-4, atol=1e-6)
    moved = {name for name, value in start.items() if (trained[name] - value).abs().max() > 1e-4}
    for part in ('backbone', 'rpn_head', 'roi_head', 'cls_head'):
        assert any(part in name for name in moved), part
