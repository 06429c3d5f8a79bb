"""Train a multi-task detector with accumulated gradients in two processes.

Usage: python -m tests.engine.accumulated_steps OUT
with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set; the first process
writes the weights to OUT.
"""

import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from tests.models.conftest import batch, build, multi_task

# Batches of process 0 and process 1 in each step.
BATCHES = (('xx', '..'), ('x.', 'x.'), ('..', '..'), ('.x', 'xx'))
COUNTS, RATE = 2, 0.05


def micro_batch(step: int, rank: int) -> dict:
    """Make a batch, and seed the random numbers of the step."""
    data = batch(BATCHES[step][rank], seed=2 * step + rank)
    torch.manual_seed(2 * step + rank)
    return data


def main(out: str) -> None:
    dist.init_process_group('gloo', timeout=timedelta(seconds=120))
    torch.set_num_threads(1)
    model = MMDistributedDataParallel(build(multi_task('rfcn')), broadcast_buffers=False)
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=RATE), accumulative_counts=COUNTS)
    optim.initialize_count_status(model, 0, len(BATCHES))
    for step in range(len(BATCHES)):
        model.train_step(micro_batch(step, dist.get_rank()), optim)
    if dist.get_rank() == 0:
        torch.save(dict(model.module.named_parameters()), out)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == '__main__':
    main(sys.argv[1])
