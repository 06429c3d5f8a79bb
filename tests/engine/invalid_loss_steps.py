"""Train in two processes; the loss of the second process becomes NaN.

Usage: python -m tests.engine.invalid_loss_steps CONFIG WORK_DIR
with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set.
"""

import sys
from datetime import timedelta

import torch.distributed as dist
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.runner import Runner

from tests.engine import tiny_model  # noqa: F401  (registers TinyModel)
from tests.engine.test_stop_at_invalid_loss_hook import ChangeLoss


def main(config: str, work_dir: str) -> None:
    # A deadlock ends with an error.
    dist.init_process_group('gloo', timeout=timedelta(seconds=60))
    register_all_modules()
    cfg = Config.fromfile(config)
    cfg.model = dict(type='TinyModel')
    cfg.update(work_dir=work_dir, launcher='pytorch')
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
    )
    runner = Runner.from_cfg(cfg)
    if dist.get_rank():
        runner.register_hook(ChangeLoss('loss_cls'))
    runner.train()


if __name__ == '__main__':
    main(*sys.argv[1:])
