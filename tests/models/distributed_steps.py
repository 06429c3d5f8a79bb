"""Train a tiny detector in two processes; run by test_distributed.py.

Usage: python -m tests.models.distributed_steps NAME STEPS
with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set.
"""

import itertools
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from tests.models.conftest import batch, build, multi_task

# Kinds of batches, see tests.models.conftest.batch.  Each process gets each kind while
# the other process gets each kind.
KINDS = ('xx', '..', 'x.', '.x', '??')


def main(name: str, steps: int) -> None:
    # A deadlock fails the test after two minutes.
    dist.init_process_group('gloo', timeout=timedelta(seconds=120))
    rank = dist.get_rank()
    torch.set_num_threads(1)
    model = MMDistributedDataParallel(build(multi_task(name)), broadcast_buffers=False)
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3), clip_grad=dict(max_norm=1.0))
    pairs = itertools.cycle(itertools.product(KINDS, repeat=2))
    for step, pair in zip(range(steps), pairs):
        data = batch(pair[rank], seed=2 * step + rank)
        values = model.train_step(data, optim)
        assert all(torch.isfinite(value).all() for value in values.values())
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    others = [torch.empty_like(weights) for _ in range(2)]
    dist.all_gather(others, weights)
    assert torch.isfinite(weights).all()
    assert torch.equal(*others), 'the weights of the processes differ'
    start = torch.cat([p.detach().flatten() for p in build(multi_task(name)).parameters()])
    print('moved', float((weights - start).abs().max()))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
