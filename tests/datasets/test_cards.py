"""Train and evaluate on photographs in VOC layout."""

import pytest
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


def test_train_and_evaluate(cfg, tmp_path):
    cfg.work_dir = str(tmp_path)
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.model.backbone.base_channels = 8
    cfg.model.rpn_head.in_channels = 32
    cfg.model.roi_head.bbox_head.in_channels = 64
    cfg.val_dataloader.dataset.indices = 4
    runner = Runner.from_cfg(cfg)
    assert len(runner.train_dataloader.dataset) == 296
    runner.train()
    metric = runner.message_hub.get_scalar('val/pascal_voc/mAP').current()
    assert 0 <= metric <= 1
