"""Train in several processes, and record which images each process sees.

Usage: python -m tests.engine.many_processes CONFIG FOLDER
with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set.

Writes FOLDER/LOOP_RANK.json for LOOP in iterations, epochs: the images in the batches of a whole
run, of a run that ends early, and of the same run resumed.
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

from tests.engine.conftest import use_partial_boxes

LOOPS = dict(
    iterations=dict(type='IterBasedTrainLoop', max_iters=9, val_interval=1000),
    epochs=dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=1000),
)
EARLY = dict(iterations=dict(max_iters=4), epochs=dict(max_epochs=2))


@MODELS.register_module()
class OneParameter(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.parameter = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs, data_samples=None, mode='loss') -> dict:
        return dict(loss=self.parameter * len(inputs))


class RecordImages(Hook):
    def __init__(self) -> None:
        self.images = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.images.append(
            [[sample.img_id, sample.has_boxes] for sample in data_batch['data_samples']]
        )


def run(config: str, work_dir: Path, loop: str, early: bool = False) -> list:
    cfg = Config.fromfile(config)
    cfg.model = dict(type='OneParameter')
    cfg.train_cfg = dict(LOOPS[loop], **EARLY[loop] if early else {})
    use_partial_boxes(cfg)
    loader = cfg.train_dataloader
    loader.update(batch_size=3, num_workers=1)
    loader.batch_sampler = dict(type='mmgwap.PartialBoxBatchSampler', num_boxed=1)
    if loop == 'epochs':
        loader.sampler.type = 'DefaultSampler'
    else:
        # The processes draw different numbers, but the same order of images.
        cfg.randomness = dict(seed=3, diff_rank_seed=True)
    cfg.default_hooks.checkpoint.update(by_epoch=loop == 'epochs', interval=1)
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
    runner, recorder = Runner.from_cfg(cfg), RecordImages()
    runner.register_hook(recorder)
    runner.train()
    dist.barrier()
    return recorder.images


def main(config: str, folder: str) -> None:
    # A deadlock ends with an error.
    dist.init_process_group('gloo', timeout=timedelta(seconds=120))
    register_all_modules()
    for loop in LOOPS:
        images = dict(whole=run(config, Path(folder) / f'{loop}_whole', loop))
        parts = Path(folder) / f'{loop}_parts'
        images['early'] = run(config, parts, loop, early=True)
        images['resumed'] = run(config, parts, loop)
        (Path(folder) / f'{loop}_{dist.get_rank()}.json').write_text(json.dumps(images))
    dist.destroy_process_group()


if __name__ == '__main__':
    main(*sys.argv[1:])
