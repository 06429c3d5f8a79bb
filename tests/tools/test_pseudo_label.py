"""tools/pseudo_label.py: pseudo boxes of the training images with labels only."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config

from mmgwap.checkpoint import safe_checkpoints
from mmgwap.models.detectors.class_masks import mask_classes
from mmgwap.models.task_modules import select_boxes
from tests.datasets.helpers import BOXES, coco, voc
from tools.pseudo_label import find_images

register_all_modules()
TOOL = 'tools/pseudo_label.py'
HEAD = dict(type='mmgwap.ImageClsHead', num_classes=10, in_channels=64)


def wrap(cfg, kind):
    """Wrap the model of a config."""
    if kind != 'plain':
        cfg.model = dict(type='mmgwap.MultiTaskDetector', detector=cfg.model, cls_head=HEAD)
    if kind == 'teacher':
        cfg.model = dict(type='mmgwap.LabelGuidedTeacher', detector=cfg.model)
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='mmgwap.MeanTeacherHook')]


@pytest.fixture(scope='module')
def write_config(config, tmp_path_factory):
    """Function that writes the tiny config with boxes on half of its 16 images."""

    def write(kind='plain', **options):
        cfg = Config.fromfile(config)
        wrap(cfg, kind)
        cfg.train_dataloader.dataset = dict(
            type='mmgwap.PartialBoxDataset',
            percent=50,
            dataset=cfg.train_dataloader.dataset,
            **options,
        )
        path = tmp_path_factory.mktemp('configs') / f'{kind}.py'
        cfg.dump(path)
        return path

    return write


@pytest.fixture(scope='module')
def all_boxes(tool, trained, write_config, tmp_path_factory):
    """Results and COCO file with all boxes of present classes, and the output of the tool."""
    out = tmp_path_factory.mktemp('all')
    options = '--score-thr', '0', '--out', out / 'boxes.json', '--coco', out / 'coco.json'
    config = write_config(boxes_only=True, pseudo_boxes=str(out / 'missing.json'))
    done = tool(TOOL, config, trained / 'iter_8.pth', *options, '--workers', '0')
    return json.loads((out / 'boxes.json').read_text()), out, done.stdout


def read_dataset(config, **options):
    cfg = Config.fromfile(config).train_dataloader.dataset
    for key in ('boxes_only', 'pseudo_boxes'):
        cfg.pop(key, None)
    return DATASETS.build(dict(cfg, **options))


def test_results_are_the_masked_predictions(trained, write_config, all_boxes):
    """Oracle: mmdet's own inference, one image at a time."""
    path = write_config()
    cfg = Config.fromfile(path)
    with safe_checkpoints():
        model = init_detector(cfg, str(trained / 'iter_8.pth'), device='cpu')
    dataset = read_dataset(path)
    expected = []
    for index in np.flatnonzero(~dataset.boxed):
        info = dataset.get_data_info(int(index))
        absent = torch.ones(1, 10, dtype=torch.bool)
        absent[0, info['image_labels']] = False
        with mask_classes(model, absent):
            boxes = inference_detector(model, info['img_path']).pred_instances
        boxes = select_boxes(boxes, torch.zeros(10), (~absent[0]).float(), best_score=0.1)
        for box, label, score in zip(boxes.bboxes.tolist(), boxes.labels, boxes.scores):
            if not absent[0, label]:
                x1, y1, x2, y2 = box
                expected.append(
                    [info['img_id'], int(label), x1, y1, x2 - x1, y2 - y1, float(score)]
                )
    found = [
        [entry['image_id'], int(entry['category_name']), *entry['bbox'], entry['score']]
        for entry in all_boxes[0]
    ]
    assert len(found) == len(expected) > 20
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert all(entry['category_id'] == int(entry['category_name']) + 1 for entry in all_boxes[0])


def test_a_data_set_reads_the_results(write_config, all_boxes):
    results, out, text = all_boxes
    path = write_config()
    dataset = read_dataset(path, pseudo_boxes=str(out / 'boxes.json'))
    counts = Counter(entry['image_id'] for entry in results)
    for index, boxed in enumerate(dataset.boxed):
        sample = dataset[index]['data_samples']
        if boxed:
            assert sample.img_id not in counts
        else:
            assert len(sample.file_instances) == counts[sample.img_id]
            assert set(sample.file_instances.labels.tolist()) <= set(
                sample.gt_image_labels.tolist()
            )
    assert f'boxes.json: {len(results)} boxes for {len(counts)} of 8 images' in text


def test_coco_file_of_all_images(write_config, config, all_boxes):
    results, out, text = all_boxes
    cfg = Config.fromfile(config).train_dataloader.dataset
    folder = text.strip().splitlines()[-1].split('relative to ')[1]
    changes = dict(data_root='', ann_file=str(out / 'coco.json'), data_prefix=dict(img=folder))
    dataset = DATASETS.build(dict(cfg, **changes))
    truth = DATASETS.build(cfg)
    partial = read_dataset(write_config())
    assert len(dataset) == 16
    for index, boxed in enumerate(partial.boxed):
        info, true = dataset.get_data_info(index), truth.get_data_info(index)
        for key in ('img_id', 'width', 'height'):
            assert info[key] == true[key]
        assert info['img_path'] == true['img_path'] and dataset[index]['inputs'].ndim == 3
        boxes = [obj['bbox'] for obj in info['instances']]
        if boxed:
            assert boxes == [obj['bbox'] for obj in true['instances']]
        else:
            of_image = [entry for entry in results if entry['image_id'] == info['img_id']]
            found = [(obj['bbox_label'], obj['bbox'][0]) for obj in info['instances']]
            assert found == [
                (int(entry['category_name']), entry['bbox'][0])
                for entry in of_image
                if min(entry['bbox'][2:]) >= 1
            ]
    content = json.loads((out / 'coco.json').read_text())
    scores = [ann['score'] for ann in content['annotations'] if 'score' in ann]
    assert scores == [entry['score'] for entry in results]
    for ann in content['annotations']:
        assert ann['area'] == pytest.approx(ann['bbox'][2] * ann['bbox'][3], abs=0.01)
        assert ann['iscrowd'] == 0


@pytest.mark.parametrize('kind', ['multi_task', 'teacher'])
def test_other_models_find_the_same_boxes(tool, trained, write_config, all_boxes, kind, tmp_path):
    """The checkpoint of the plain detector loads into each model."""
    out = tmp_path / 'boxes.json'
    options = '--score-thr', '0', '--out', out, '--workers', '0', '--batch-size', '3'
    tool(TOOL, write_config(kind), trained / 'iter_8.pth', *options)
    found = json.loads(out.read_text())
    assert [(entry['image_id'], entry['category_id']) for entry in found] == [
        (entry['image_id'], entry['category_id']) for entry in all_boxes[0]
    ]
    np.testing.assert_allclose(
        [entry['bbox'] for entry in found], [entry['bbox'] for entry in all_boxes[0]], atol=0.05
    )


def test_best_boxes_and_no_labels(tool, trained, write_config, all_boxes, tmp_path):
    config, checkpoint = write_config(), trained / 'iter_8.pth'
    out = tmp_path / 'boxes.json'
    options = '--out', out, '--workers', '0', '--score-thr'
    tool(TOOL, config, checkpoint, *options, '1', '--best-score', '0')
    found = json.loads(out.read_text())
    counts = Counter((entry['image_id'], entry['category_id']) for entry in found)
    assert set(counts.values()) == {1}
    best = {}
    for entry in all_boxes[0]:
        best[entry['image_id']] = max(best.get(entry['image_id'], 0), entry['score'])
    assert best.items() <= {(entry['image_id'], entry['score']) for entry in found}

    tool(TOOL, config, checkpoint, *options, '0', '--no-labels')
    blind = json.loads(out.read_text())
    dataset = read_dataset(config)
    present = {
        info['img_id']: info['image_labels']
        for info in map(dataset.get_data_info, np.flatnonzero(~dataset.boxed).tolist())
    }
    assert any(int(e['category_name']) not in present[e['image_id']] for e in blind)
    tool(TOOL, config, checkpoint, *options, '1', '--no-labels', '--best-score', '0')
    assert json.loads(out.read_text()) == []


def test_only_boxes_or_wrong_options(tool, config, trained, tmp_path):
    options = trained / 'iter_8.pth', '--out', tmp_path / 'a.json'
    done = tool(TOOL, config, *options, check=False)
    assert done.returncode == 1 and not (tmp_path / 'a.json').exists()
    assert 'tiny.py: all 16 training images have boxes' in done.stderr.strip().splitlines()[-1]
    done = tool(TOOL, config, *options, '--score-thr', '1.5', check=False)
    assert '--score-thr must be in [0, 1], got 1.5' in done.stderr


def test_images_of_several_data_sets(tmp_path):
    for name in 'abc':
        (tmp_path / name).mkdir()
    first = dict(coco(tmp_path / 'a', BOXES[:2]))
    labels = coco(tmp_path / 'b', BOXES[:4])
    (tmp_path / 'b' / 'labels.csv').write_text('image,label\n3.jpg,dog\n2.jpg,\n')
    labels.update(type='mmgwap.ImageLabelDataset', format='csv', ann_file='labels.csv')
    third = voc(tmp_path / 'c', BOXES[:4])
    (tmp_path / 'c' / 'voc.txt').write_text('2\n3')
    third = dict(type='mmgwap.PartialBoxDataset', percent=50, dataset=third)
    repeat = dict(type='RepeatDataset', times=2, dataset=third)
    data = dict(type='ConcatDataset', datasets=[first, labels, repeat])
    data['ignore_keys'] = ['palette', 'dataset_type']
    cfg = Config(dict(train_dataloader=dict(dataset=data)))
    images, classes = find_images(cfg, 'x.py')
    assert classes == ('cat', 'dog')
    assert [image.id for image in images] == [0, 1, '3.jpg', '2.jpg', '2', '3']
    assert [image.source.category_ids for image in images] == [[5, 6]] * 2 + [[1, 2]] * 4
    assert [image.instances is None for image in images[:4]] == [False, False, True, True]
    assert sum(image.instances is None for image in images[4:]) == 1
    assert [(image.present, image.unknown) for image in images[2:4]] == [([1], []), ([], [0, 1])]
    assert [image.size for image in images] == [(64, 48)] * 2 + [(0, 0)] * 2 + [(64, 48)] * 2
    (tmp_path / 'c' / 'voc.txt').write_text('1\n3')
    with pytest.raises(SystemExit, match="x.py: 2 training images have the id '1'"):
        find_images(cfg, 'x.py')


@pytest.mark.slow
def test_train_on_the_results(tool, write_config, config, all_boxes, trained, tmp_path):
    """One round of self-training: a teacher's student, and a plain detector on the COCO file."""
    _, out, text = all_boxes
    folder = text.strip().splitlines()[-1].split('relative to ')[1]
    common = 'train_cfg.max_iters=2', 'train_cfg.val_interval=2', f'load_from={trained}/iter_8.pth'
    teacher = write_config('teacher', pseudo_boxes=str(out / 'boxes.json'))
    options = 'model.boxes=file', 'model.thresholds=(0.0,0.0)'
    work_dir = tmp_path / 'teacher'
    tool('tools/train.py', teacher, '--work-dir', work_dir, '--cfg-options', *common, *options)
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert any('pseudo_loss_cls' in row for row in rows)

    data = 'train_dataloader.dataset'
    options = (
        f'{data}.ann_file={out}/coco.json',
        f'{data}.data_prefix.img={folder}',
        f'{data}.filter_cfg.filter_empty_gt=True',
    )
    tool('tools/train.py', config, '--work-dir', tmp_path / 'b', '--cfg-options', *common, *options)
