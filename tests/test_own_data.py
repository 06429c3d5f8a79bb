"""Fill in the templates for a user's own data as their heads describe, and train."""

import csv
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.runner import Runner

register_all_modules()
FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'own_data'
CLASSES = ('bolt', 'nut', 'screw')


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 255, (48, 64, 3))
    cv2.imwrite(str(path), pixels.astype(np.uint8))


def write_voc(root: Path) -> dict:
    """Write images with boxes in VOC layout; return the lines of the template to change."""
    for name, seeds in (('learn', range(4)), ('check', range(4, 6))):
        for seed in seeds:
            write_image(root / f'JPEGImages/{seed}.jpg', seed)
            path = root / f'Annotations/{seed}.xml'
            path.parent.mkdir(exist_ok=True)
            path.write_text(
                '<annotation><size><width>64</width><height>48</height>'
                f'</size><object><name>{CLASSES[seed % 3]}</name><bndbox>'
                '<xmin>5</xmin><ymin>5</ymin><xmax>40</xmax><ymax>40</ymax>'
                '</bndbox></object></annotation>'
            )
        path = root / f'lists/{name}.txt'
        path.parent.mkdir(exist_ok=True)
        path.write_text('\n'.join(map(str, seeds)))
    return dict(train_list="'lists/learn.txt'", val_list="'lists/check.txt'")


def write_coco(root: Path) -> dict:
    """Write images with boxes in COCO layout; return the lines of the template to change."""
    for name in ('learn', 'check'):
        for seed in range(4):
            write_image(root / f'{name}/{seed}.jpg', seed)
        box = dict(iscrowd=0, area=1225, bbox=[5, 5, 35, 35])
        content = dict(
            categories=[dict(id=3 * i + 1, name=name) for i, name in enumerate(CLASSES)],
            images=[dict(id=i, file_name=f'{i}.jpg', width=64, height=48) for i in range(4)],
            annotations=[
                dict(box, id=i + 1, image_id=i, category_id=3 * (i % 3) + 1) for i in range(4)
            ],
        )
        (root / f'{name}.json').write_text(json.dumps(content))
    return {
        'train_json, train_images': "'learn.json', 'learn/'",
        'val_json, val_images': "'check.json', 'check/'",
    }


def write_yolo(root: Path) -> dict:
    """Write images with boxes in YOLO layout; return the lines of the template to change."""
    for name in ('train', 'val'):
        for seed in range(4):
            write_image(root / f'images/{name}/{seed}.jpg', seed)
            path = root / f'labels/{name}/{seed}.txt'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'{seed % 3} 0.35 0.47 0.55 0.73')
    names = ', '.join(CLASSES)
    (root / 'data.yaml').write_text(f'train: images/train\nval: images/val\nnames: [{names}]')
    return {}


def write_labels(root: Path) -> dict:
    """Write images with labels only; return the lines of the template to change."""
    with open(root / 'tags.csv', 'w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(['image', 'label'])
        for seed in range(3):
            write_image(root / f'others/{seed}.jpg', 10 + seed)
            rows.writerow([f'{seed}.jpg', CLASSES[seed]])
    return dict(label_file="'tags.csv'", label_images="'others/'")


def change(name: str, folder: Path, lines: dict) -> Path:
    """Write a copy of a template with other values in the lines of its head."""
    text = (FOLDER / f'{name}.py').read_text()
    head, rest = text.split('# The rest can stay as it is.')
    for key, value in lines.items():
        head, count = re.subn(rf'(?m)^{key} = .*$', f'{key} = {value}', head)
        assert count == 1, key
    assert len(lines) < 10
    # The copy is outside configs/own_data, so relative bases become absolute.
    rest = rest.replace("'../", f"'{FOLDER.parent}/")
    path = folder / f'{name}.py'
    path.write_text(head + rest)
    return path


@pytest.mark.parametrize(
    'layout, few',
    [
        ('voc', False),
        ('coco', True),
        ('yolo', False),
        pytest.param('voc', True, marks=pytest.mark.slow),
        pytest.param('coco', False, marks=pytest.mark.slow),
        pytest.param('yolo', True, marks=pytest.mark.slow),
    ],
)
def test_step_and_prediction(layout, few, tmp_path):
    root = tmp_path / 'data'
    lines = dict(
        data_root=f"'{root}/'",
        classes=repr(CLASSES),
        max_iters='1',
        **dict(voc=write_voc, coco=write_coco, yolo=write_yolo)[layout](root),
    )
    path = change(f'{layout}_layout', tmp_path, lines)
    if few:
        lines = write_labels(root)
        lines['_base_'] = f"'{layout}_layout.py'"
        path = change('few_boxes', tmp_path, lines)
    cfg = Config.fromfile(path)
    detector = cfg.model.get('detector', cfg.model)
    assert detector.backbone.init_cfg.checkpoint == 'torchvision://resnet50'
    detector.backbone.init_cfg = None
    cfg.update(work_dir=str(tmp_path / 'run'), log_level='ERROR')
    cfg.train_cfg.val_interval = 1
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        for dataset in loader.dataset.get('datasets', [loader.dataset]):
            dataset.pipeline[1 if dataset.get('test_mode') else 2].scale = (200, 150)
    runner = Runner.from_cfg(cfg)
    before = [value.detach().clone() for value in runner.model.parameters()]
    runner.train()
    assert not all(map(torch.equal, before, runner.model.parameters()))
    metrics = runner.val_loop.run()
    assert ('pascal_voc/mAP' if layout == 'voc' else 'coco/bbox_mAP') in metrics
    assert ('image/mAP' in metrics) == few
    assert ('train/loss_image' in runner.message_hub.log_scalars) == few


@pytest.mark.parametrize('name', ['voc_layout', 'coco_layout', 'yolo_layout', 'few_boxes'])
def test_head_has_fewer_than_ten_lines(name):
    head = (FOLDER / f'{name}.py').read_text().split('# The rest can stay')[0]
    assert 0 < len([line for line in head.splitlines() if line and not line.startswith('#')]) < 10
