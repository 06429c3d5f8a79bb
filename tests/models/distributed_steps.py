"""Train a tiny detector in two processes; run by test_distributed.py.

Usage: python -m tests.models.distributed_steps NAME STEPS MODEL
where MODEL is MultiTaskDetector or LabelGuidedTeacher,
with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set.
"""

import itertools
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from mmgwap.engine.hooks import MeanTeacherHook
from tests.models.conftest import batch, build, finding, multi_task, teacher_of
from tests.toy_data import tiny_detector

# Kinds of batches, see tests.models.conftest.batch.  Each process gets each kind while
# the other process gets each kind.
KINDS = ('xx', '..', 'x.', '.x', '??')


def config(name: str, model: str) -> dict:
    if model == 'MultiTaskDetector':
        return multi_task(name)
    # Of unknown classes no box passes, so images of the kind '?' are left out.
    return teacher_of(finding(tiny_detector(name)), thresholds=(0.99, 0.99), window=20)


def check_equal(name: str, values: torch.Tensor) -> None:
    """Check that values are finite, and equal in both processes."""
    others = [torch.empty_like(values) for _ in range(2)]
    dist.all_gather(others, values)
    assert torch.isfinite(values).all()
    assert torch.equal(*others), f'the {name} of the processes differ'


def check_counts(teacher: torch.nn.Module, pairs: list) -> None:
    """Check that the counts of images are those of both processes."""
    expected = torch.zeros(3)  # with boxes, without boxes, left out
    for pair in pairs:
        kinds = ''.join(pair)
        new = torch.tensor([kinds.count('x'), len(kinds) - kinds.count('x'), kinds.count('?')])
        decay = torch.exp(-new / 20)
        expected = expected * decay[[0, 1, 1]] + new
    found = torch.cat([teacher.thresholds.images, teacher.statistics.images[:2]])
    torch.testing.assert_close(found, expected[[0, 1, 1, 2]])
    for name, values in teacher.named_buffers():
        if name.startswith(('thresholds', 'statistics', 'iteration')):
            check_equal(name, values)


def main(name: str, steps: int, kind: str) -> None:
    # A deadlock fails the test after two minutes.
    dist.init_process_group('gloo', timeout=timedelta(seconds=120))
    rank = dist.get_rank()
    torch.set_num_threads(1)
    model = MMDistributedDataParallel(build(config(name, kind)), broadcast_buffers=False)
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3), clip_grad=dict(max_norm=1.0))
    pairs = list(itertools.islice(itertools.cycle(itertools.product(KINDS, repeat=2)), steps))
    for step, pair in enumerate(pairs):
        data = batch(pair[rank], seed=2 * step + rank)
        values = model.train_step(data, optim)
        assert all(torch.isfinite(value).all() for value in values.values())
        if kind == 'LabelGuidedTeacher':
            MeanTeacherHook().momentum_update(model.module, 0.1)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    check_equal('weights', weights)
    if kind == 'LabelGuidedTeacher':
        check_counts(model.module, pairs)
    start = torch.cat([p.detach().flatten() for p in build(config(name, kind)).parameters()])
    print('moved', float((weights - start).abs().max()))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
