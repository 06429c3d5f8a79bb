"""Photographs in VOC layout: loading, training and evaluation."""

import pytest
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.runner import Runner


@pytest.fixture
def cfg(repo, cards):
    register_all_modules()
    cfg = Config.fromfile(repo / 'configs' / 'rfcn' / 'rfcn_r18_cards.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = f'{cards}/'
    return cfg


def test_loading(cfg):
    for loader, count in ((cfg.train_dataloader, 296), (cfg.val_dataloader, 67)):
        dataset = DATASETS.build(loader.dataset)
        assert len(dataset) == count
        sample = dataset[0]
        assert sample['inputs'].shape[0] == 3
        assert len(sample['data_samples'].gt_instances) > 0


def test_a_short_run_gives_the_voc_metric(cfg, tmp_path):
    cfg.work_dir = str(tmp_path)
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.model.backbone.base_channels = 8
    cfg.model.rpn_head.in_channels = 32
    cfg.model.roi_head.bbox_head.in_channels = 64
    cfg.val_dataloader.dataset.indices = 4
    runner = Runner.from_cfg(cfg)
    runner.train()
    metric = runner.message_hub.get_scalar('val/pascal_voc/mAP').current()
    assert 0 <= metric <= 1
