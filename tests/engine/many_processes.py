"""Trainings in several processes, which note what each of them sees.

Usage: python -m tests.engine.many_processes CONFIG FOLDER
with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set.

Writes FOLDER/KIND_RANK.json for KIND in endless, epochs: images of the batches
of a whole run, of one that ends early, and of that one resumed.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner

from tests.engine.conftest import few_boxes

LOOPS = dict(
    endless=dict(type='IterBasedTrainLoop', max_iters=9, val_interval=1000),
    epochs=dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=1000),
)
EARLY = dict(endless=dict(max_iters=4), epochs=dict(max_epochs=2))


@MODELS.register_module()
class OneNumber(BaseModel):
    """The batches are what these trainings are for."""

    def __init__(self) -> None:
        super().__init__()
        self.number = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs, data_samples=None, mode='loss') -> dict:
        return dict(loss=self.number * len(inputs))


class Images(Hook):
    def __init__(self) -> None:
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.seen.append(
            [[sample.img_id, sample.has_boxes] for sample in data_batch['data_samples']]
        )


def run(config: str, work_dir: Path, kind: str, early: bool = False) -> list:
    cfg = few_boxes(Config.fromfile(config))
    cfg.model = dict(type='OneNumber')
    cfg.train_cfg = dict(LOOPS[kind], **EARLY[kind] if early else {})
    loader = cfg.train_dataloader
    loader.update(batch_size=3, num_workers=1)
    loader.batch_sampler.num_boxed = 1
    if kind == 'epochs':
        loader.sampler.type = 'DefaultSampler'
    else:
        # Each process draws its own numbers, but of the same order of images.
        cfg.randomness = dict(seed=3, diff_rank_seed=True)
    cfg.default_hooks.checkpoint.update(by_epoch=kind == 'epochs', interval=1)
    cfg.update(
        work_dir=str(work_dir),
        launcher='pytorch',
        resume=True,
        param_scheduler=None,
        log_level='ERROR',
        val_dataloader=None,
        val_cfg=None,
        val_evaluator=None,
        custom_hooks=[dict(type='mmgwap.ExactResumeHook')],
        model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None),
    )
    runner, images = Runner.from_cfg(cfg), Images()
    runner.register_hook(images)
    runner.train()
    dist.barrier()
    return images.seen


def main(config: str, folder: str) -> None:
    # A hang ends the test instead of waiting for it.
    dist.init_process_group('gloo', timeout=timedelta(seconds=120))
    register_all_modules()
    for kind in LOOPS:
        seen = dict(whole=run(config, Path(folder) / f'{kind}_whole', kind))
        parts = Path(folder) / f'{kind}_parts'
        seen['early'] = run(config, parts, kind, early=True)
        seen['resumed'] = run(config, parts, kind)
        (Path(folder) / f'{kind}_{dist.get_rank()}.json').write_text(json.dumps(seen))
    dist.destroy_process_group()


if __name__ == '__main__':
    main(*sys.argv[1:])
