"""BadImagesHook reports unreadable images and drops the predictions on them."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.evaluation import VOCMetric
from mmdet.models.detectors import BaseDetector
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmgwap.engine.hooks.bad_images_hook import BadImagesHook, _drop_predictions
from mmgwap.registry import MODELS
from tests.datasets.bad_files import BAD_FILES
from tests.datasets.helpers import CLASSES, GOOD, coco, voc
from tests.datasets.test_unreadable_images import TEST

register_all_modules()
HOOK = [dict(type='mmgwap.BadImagesHook')]
OTHER = [5, 5, 30, 40]
BOXES = [
    [(GOOD, 'cat')],
    [(GOOD, 'dog'), (OTHER, 'cat')],
    [(OTHER, 'dog')],
    [(GOOD, 'cat'), (OTHER, 'dog')],
    [(GOOD, 'dog')],
    [(OTHER, 'cat')],
]
BAD = [1, 4]
PATHS = [f'{image}.jpg' for image in BAD]
META_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip')
TTA = [
    TEST[0],
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(s, s), keep_ratio=True) for s in (32, 64)],
            [dict(type='RandomFlip', prob=0.0)],
            [TEST[2]],
            [dict(type='PackDetInputs', meta_keys=(*META_KEYS, 'flip_direction'))],
        ],
    ),
]


@MODELS.register_module()
class PredictsTruth(BaseDetector):
    """Predict the true boxes, shifted, and one false box, for any content of an image."""

    def __init__(self, data_preprocessor=None):
        super().__init__(dict(type='DetDataPreprocessor'), None)
        self.weight, self.seen = torch.nn.Parameter(torch.ones(1)), []

    def extract_feat(self, inputs):
        return inputs

    def _forward(self, inputs, samples=None):
        return inputs

    def loss(self, inputs, samples):
        self.seen += [sample.img_path for sample in samples]
        return dict(loss=(self.weight * inputs.mean()).sum())

    def predict(self, inputs, samples, rescale=True):
        for sample in samples:
            sample.pred_instances = predict(sample.img_id, sample.gt_instances)
            present = sample.gt_instances.labels
            sample.pred_image_scores = torch.tensor([0.3, 0.4]).index_fill(0, present, 0.9)
            sample.pred_image_maps = torch.ones(2, 4, 4)
        return samples


def predict(img_id, truth):
    boxes = getattr(truth.bboxes, 'tensor', truth.bboxes)
    score = 0.5 + int(img_id) / 100
    return InstanceData(
        bboxes=torch.cat([boxes + int(img_id), torch.tensor([[1.0, 1, 9, 9]])]),
        labels=torch.cat([truth.labels, torch.tensor([0])]),
        scores=torch.tensor([score] * len(boxes) + [0.6]),
    )


def true_instances(image, offset=0.0):
    return InstanceData(
        bboxes=torch.tensor([box for box, _ in BOXES[image]]) + offset,
        labels=torch.tensor([('cat', 'dog').index(name) for _, name in BOXES[image]]),
    )


class KeepOutputs(Hook):
    """Keep the predictions that metrics get."""

    priority = 'LOWEST'

    def __init__(self):
        self.samples = []

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.samples += outputs

    after_test_iter = after_val_iter


def loader_and_evaluator(root, kind='coco', pipeline=TEST, workers=0, **options):
    """Write a data set with unreadable images; return configs of its loader and evaluator."""
    if kind == 'coco':
        dataset = coco(root, BOXES, type='mmgwap.CheckedCocoDataset')
        coco_metric = dict(type='CocoMetric', ann_file=f'{root}/coco.json')
        evaluator = [coco_metric, dict(type='mmgwap.MultiLabelMetric')]
    else:
        dataset = voc(root, BOXES, type='mmgwap.CheckedXMLDataset')
        evaluator = dict(type='VOCMetric')
    for path in PATHS:
        folder = root / dict(coco='img', voc='JPEGImages')[kind]
        (folder / path).write_bytes(BAD_FILES['truncated_jpeg'])
    dataset.update(pipeline=pipeline, test_mode=True, on_bad_image='skip')
    return dict(
        batch_size=2,
        num_workers=workers,
        persistent_workers=bool(workers),
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(dataset, **options),
    ), evaluator


def run(root, loader, evaluator, hooks=HOOK, model=None, name='test'):
    runner = Runner(
        model or dict(type='mmgwap.PredictsTruth'),
        work_dir=str(root / 'work'),
        default_scope='mmdet',
        experiment_name=f'{root.name}_{name}',
        custom_hooks=hooks,
        **{f'{name}_dataloader': loader, f'{name}_cfg': dict(), f'{name}_evaluator': evaluator},
    )
    return runner, getattr(runner, name)()


def read_log(runner):
    (log,) = Path(runner.log_dir).glob('*.log')
    return log.read_text()


def pycocotools_stats(root, without):
    """Compute the statistics of all predictions, except on some images."""
    truth, results = COCO(str(root / 'coco.json')), []
    for image in set(range(len(BOXES))) - set(without):
        found = predict(image, true_instances(image))
        results += [
            dict(
                image_id=image, category_id=5 + label, score=score, bbox=[x1, y1, x2 - x1, y2 - y1]
            )
            for (x1, y1, x2, y2), label, score in zip(
                found.bboxes.tolist(), found.labels.tolist(), found.scores.tolist()
            )
        ]
    measure = COCOeval(truth, truth.loadRes(results), 'bbox')
    measure.evaluate()
    measure.accumulate()
    measure.summarize()
    return measure.stats


@pytest.mark.parametrize(
    'name, workers, pipeline', [('val', 1, TEST), ('test', 0, TEST), ('test', 0, TTA)]
)
def test_coco_counts_objects_as_missed(name, workers, pipeline, tmp_path):
    loader, evaluator = loader_and_evaluator(tmp_path, workers=workers, pipeline=pipeline)
    model = None
    if pipeline is TTA:
        model = dict(
            type='mmgwap.MultiTaskTTAModel',
            tta_cfg=ConfigDict(nms=dict(type='nms', iou_threshold=0.99), max_per_img=100),
            module=dict(type='mmgwap.PredictsTruth'),
        )
    outputs = KeepOutputs()
    runner, metrics = run(tmp_path, loader, evaluator, [*HOOK, outputs], model, name)
    expected, all_readable = (pycocotools_stats(tmp_path, without) for without in (BAD, []))
    for index, key in enumerate(('mAP', 'mAP_50', 'mAP_75')):
        assert metrics[f'coco/bbox_{key}'] == pytest.approx(expected[index], abs=6e-4)
        assert all_readable[index] > expected[index] + 0.01
    # 1 of 4 images with a cat and 2 of 4 images with a dog are unreadable.
    assert metrics['image/AP_cat'] == pytest.approx(3 / 4)
    assert metrics['image/AP_dog'] == pytest.approx(2 / 4)
    for sample in outputs.samples:
        unreadable = sample.img_id in BAD
        assert ('unreadable' in sample) == unreadable
        assert (len(sample.pred_instances) == 0) == unreadable
        assert bool((sample.pred_image_scores == 0).all()) == unreadable
        assert ('pred_image_maps' in sample) == (not unreadable and pipeline is TEST)
    assert f'{name}: 2 of 6 images could not be read' in read_log(runner)
    assert not (runner.model.module if model else runner.model)._forward_hooks


def test_voc_counts_objects_as_missed(tmp_path):
    _, metrics = run(tmp_path, *loader_and_evaluator(tmp_path, 'voc'))
    none = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    expected = []
    for unreadable in (BAD, []):
        metric = VOCMetric()
        metric.dataset_meta = CLASSES
        for image in range(len(BOXES)):
            truth = true_instances(image, -1.0)
            found = predict(image, truth)[: 0 if image in unreadable else None]
            sample = DetDataSample(gt_instances=truth, pred_instances=found, ignored_instances=none)
            metric.process({}, [sample.to_dict()])
        expected.append(metric.evaluate(len(BOXES))['pascal_voc/mAP'])
    assert metrics['pascal_voc/mAP'] == pytest.approx(expected[0])
    assert expected[1] > expected[0] + 0.01


def test_measuring_stops_without_the_hook(tmp_path):
    with pytest.raises(RuntimeError, match='cannot prepare .*1.jpg: .*mmgwap.BadImagesHook'):
        run(tmp_path, *loader_and_evaluator(tmp_path), hooks=[])


def test_measuring_requires_test_mode(tmp_path):
    with pytest.raises(ValueError, match='coco.json: .*set test_mode=True'):
        run(tmp_path, *loader_and_evaluator(tmp_path, test_mode=False))


def test_does_nothing_if_no_data_set_skips(tmp_path, monkeypatch):
    loader, evaluator = loader_and_evaluator(tmp_path, on_bad_image='error')
    for path in PATHS:
        (tmp_path / 'img' / path).write_bytes((tmp_path / 'img' / '0.jpg').read_bytes())
    hooked = []
    monkeypatch.setattr(torch.nn.Module, 'register_forward_hook', lambda *args: hooked.append(args))
    monkeypatch.setattr('mmgwap.engine.hooks.bad_images_hook.all_reduce', None)
    runner, metrics = run(tmp_path, loader, evaluator)
    expected = pycocotools_stats(tmp_path, [])[0]
    assert metrics['coco/bbox_mAP'] == pytest.approx(expected, abs=6e-4)
    assert not hooked and 'could not be read' not in read_log(runner)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_training_reports_and_lists_unreadable_images(by_epoch, tmp_path):
    (tmp_path / 'train').mkdir()
    loader, _ = loader_and_evaluator(tmp_path / 'train', test_mode=False)
    loader['sampler']['type'] = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
    val_loader, evaluator = loader_and_evaluator(tmp_path)
    loops = {
        True: dict(by_epoch=True, max_epochs=2),
        False: dict(type='IterBasedTrainLoop', max_iters=6, val_interval=3),
    }
    runner = Runner(
        dict(type='mmgwap.PredictsTruth'),
        work_dir=str(tmp_path / 'work'),
        default_scope='mmdet',
        experiment_name=f'{tmp_path.name}_{by_epoch}',
        custom_hooks=HOOK,
        train_dataloader=loader,
        val_dataloader=val_loader,
        val_cfg=dict(),
        val_evaluator=evaluator,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        train_cfg=loops[by_epoch],
    )
    runner.train()
    bad = [str(tmp_path / 'train' / 'img' / path) for path in PATHS]
    assert len(runner.model.seen) == 12 and not set(runner.model.seen) & set(bad)
    text = read_log(runner)
    for start in ('train', 'end of training'):
        line = f'{start}: 2 of 6 images could not be read and were skipped, such as {bad[0]}\n'
        assert text.count(line) == 1
    assert text.count('val: 2 of 6 images could not be read') == 1
    listed = (tmp_path / 'work' / runner.timestamp / 'bad_images.txt').read_text().splitlines()
    assert listed == bad + [str(tmp_path / 'img' / path) for path in PATHS]


@pytest.fixture
def training(tmp_path):
    """A stand-in for a runner, with the warnings that it logs; only image 4 is unreadable."""
    loader, _ = loader_and_evaluator(tmp_path, test_mode=False)
    (tmp_path / 'img' / '1.jpg').write_bytes((tmp_path / 'img' / '0.jpg').read_bytes())
    dataset, warnings = DATASETS.build(loader['dataset']), []
    return SimpleNamespace(
        train_loop=SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset)),
        dataset=dataset,
        log_dir=str(tmp_path),
        logger=SimpleNamespace(warning=warnings.append),
        warnings=warnings,
    )


def test_training_on_readable_images_is_not_reported(training, tmp_path):
    hook = BadImagesHook()
    hook.before_train(training)
    hook.after_train_epoch(training)
    assert not training.warnings and not (tmp_path / 'bad_images.txt').exists()
    training.dataset[4]
    hook.after_train(training)
    (warning,) = training.warnings
    assert 'end of training: 1 of 6' in warning


def test_counts_images_of_all_processes(training, monkeypatch):
    """Another process has found image 1, this process image 4."""

    def reduce(unreadable, op):
        assert op == 'max'
        unreadable[1] = 1

    monkeypatch.setattr('mmgwap.engine.hooks.bad_images_hook.all_reduce', reduce)
    training.dataset[4]
    hook = BadImagesHook()
    hook.before_train(training)
    hook.after_train(training)
    assert '2 of 6 images' in training.warnings[0]
    # The marks of this process stay its own.
    assert len(training.dataset.bad_images) == 1


def test_drops_masks_with_boxes_and_refuses_other_predictions():
    sample = DetDataSample(
        metainfo=dict(img_path='a.jpg', unreadable=True),
        pred_instances=InstanceData(bboxes=torch.ones(3, 4), masks=torch.ones(3, 8, 8, dtype=bool)),
        gt_instances=InstanceData(bboxes=torch.ones(2, 4)),
    )
    layer = torch.nn.Identity()
    layer.register_forward_hook(_drop_predictions)
    for _ in range(2):  # the second time, no prediction is left
        layer([sample])
        assert sample.pred_instances.masks.shape == (0, 8, 8)
        assert len(sample.gt_instances) == 2
    sample.pred_sem_seg = PixelData(sem_seg=torch.ones(1, 8, 8))
    with pytest.raises(TypeError, match='a.jpg: .*pred_sem_seg'):
        layer([sample])
    assert layer(dict(loss=1)) == dict(loss=1)
