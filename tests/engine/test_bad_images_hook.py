"""Bad images are told of, and nothing on them is ever measured as found."""

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

from mmgwap.datasets.unreadable_images import skipping_datasets
from mmgwap.engine.hooks.bad_images_hook import BadImagesHook, _drop_predictions
from mmgwap.registry import MODELS
from tests.datasets.bad_files import BAD_FILES
from tests.datasets.helpers import CLASSES, GOOD, write_coco, write_voc
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
FLIPS = [
    TEST[0],
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(s, s), keep_ratio=True) for s in (32, 64)],
            [dict(type='RandomFlip', prob=0.0)],
            [TEST[2]],
            [
                dict(
                    type='PackDetInputs',
                    meta_keys=(
                        'img_id',
                        'img_path',
                        'ori_shape',
                        'img_shape',
                        'scale_factor',
                        'flip',
                        'flip_direction',
                    ),
                )
            ],
        ],
    ),
]


@MODELS.register_module()
class KnowsTheTruth(BaseDetector):
    """Predicts true boxes, one moved and one invented, whatever it sees."""

    def __init__(self, data_preprocessor=None):
        super().__init__(dict(type='DetDataPreprocessor'), None)
        self.weight, self.seen = torch.nn.Parameter(torch.ones(1)), []

    def extract_feat(self, inputs):
        return inputs

    def _forward(self, inputs, samples=None):
        return inputs

    def loss(self, inputs, samples):
        # Training goes on through the same forward.
        self.seen += [one.img_path for one in samples]
        return dict(loss=(self.weight * inputs.mean()).sum())

    def predict(self, inputs, samples, rescale=True):
        for sample in samples:
            sample.pred_instances = prediction(sample.img_id, sample.gt_instances)
            present = sample.gt_instances.labels
            sample.pred_image_scores = torch.tensor([0.3, 0.4]).index_fill(0, present, 0.9)
            sample.pred_image_maps = torch.ones(2, 4, 4)
        return samples


def prediction(img_id, truth):
    boxes = getattr(truth.bboxes, 'tensor', truth.bboxes)
    score = 0.5 + int(img_id) / 100
    return InstanceData(
        bboxes=torch.cat([boxes + int(img_id), torch.tensor([[1.0, 1, 9, 9]])]),
        labels=torch.cat([truth.labels, torch.tensor([0])]),
        scores=torch.tensor([score] * len(boxes) + [0.6]),
    )


class Outputs(Hook):
    """Keeps what metrics are given."""

    priority = 'LOWEST'

    def __init__(self):
        self.samples = []

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.samples += outputs

    after_test_iter = after_val_iter


def measured(root, kind='coco', pipeline=TEST, workers=0, **options):
    """A loader and evaluator; some images are bad once it is built."""
    if kind == 'coco':
        write_coco(root, BOXES)
        dataset = dict(
            type='mmgwap.CheckedCocoDataset', ann_file='coco.json', data_prefix=dict(img='img/')
        )
        evaluator = [
            dict(type='CocoMetric', ann_file=f'{root}/coco.json'),
            dict(type='mmgwap.MultiLabelMetric'),
        ]
    else:
        write_voc(root, BOXES)
        dataset = dict(
            type='mmgwap.CheckedXMLDataset', ann_file='voc.txt', data_prefix=dict(sub_data_root='')
        )
        evaluator = dict(type='VOCMetric')
    for path in PATHS:
        folder = root / dict(coco='img', voc='JPEGImages')[kind]
        (folder / path).write_bytes(BAD_FILES['truncated_jpeg'])
    dataset.update(
        data_root=str(root),
        metainfo=CLASSES,
        pipeline=pipeline,
        test_mode=True,
        on_bad_image='skip',
    )
    return dict(
        batch_size=2,
        num_workers=workers,
        persistent_workers=bool(workers),
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(dataset, **options),
    ), evaluator


def run(root, loader, evaluator, hooks=HOOK, model=None, name='test'):
    runner = Runner(
        model or dict(type='mmgwap.KnowsTheTruth'),
        work_dir=str(root / 'work'),
        default_scope='mmdet',
        experiment_name=f'{root.name}_{name}',
        custom_hooks=hooks,
        **{f'{name}_dataloader': loader, f'{name}_cfg': dict(), f'{name}_evaluator': evaluator},
    )
    return runner, getattr(runner, name)()


def logged(runner):
    (log,) = Path(runner.log_dir).glob('*.log')
    return log.read_text()


def pycocotools_stats(root, without):
    """What pycocotools says of the predictions, of some images none."""
    truth = COCO(str(root / 'coco.json'))
    found = []
    for image, boxes in enumerate(BOXES):
        if image in without:
            continue
        one = prediction(
            image,
            InstanceData(
                bboxes=torch.tensor([box for box, _ in boxes], dtype=torch.float),
                labels=torch.tensor([('cat', 'dog').index(name) for _, name in boxes]),
            ),
        )
        found += [
            dict(
                image_id=image, category_id=5 + label, score=score, bbox=[x1, y1, x2 - x1, y2 - y1]
            )
            for (x1, y1, x2, y2), label, score in zip(
                one.bboxes.tolist(), one.labels.tolist(), one.scores.tolist()
            )
        ]
    measure = COCOeval(truth, truth.loadRes(found), 'bbox')
    measure.evaluate()
    measure.accumulate()
    measure.summarize()
    return measure.stats


@pytest.mark.parametrize(
    'name, workers, pipeline',
    [('val', 0, TEST), ('test', 0, TEST), ('val', 1, TEST), ('test', 0, FLIPS)],
)
def test_coco_counts_their_objects_as_missed(name, workers, pipeline, tmp_path):
    loader, evaluator = measured(tmp_path, workers=workers, pipeline=pipeline)
    model = (
        dict(
            type='mmgwap.MultiTaskTTAModel',
            tta_cfg=ConfigDict(nms=dict(type='nms', iou_threshold=0.99), max_per_img=100),
            module=dict(type='mmgwap.KnowsTheTruth'),
        )
        if pipeline is FLIPS
        else None
    )
    outputs = Outputs()
    runner, metrics = run(tmp_path, loader, evaluator, [*HOOK, outputs], model, name)
    for place, key in ((0, 'mAP'), (1, 'mAP_50'), (2, 'mAP_75')):
        wanted = pycocotools_stats(tmp_path, BAD)[place]
        assert metrics[f'coco/bbox_{key}'] == pytest.approx(wanted, abs=6e-4)
        whole = pycocotools_stats(tmp_path, [])[place]
        assert whole > wanted + 0.01  # else it would show nothing
    # Of 3 or 4 images each, one with a cat and two with a dog are bad.
    assert metrics['image/AP_cat'] == pytest.approx(3 / 4)
    assert metrics['image/AP_dog'] == pytest.approx(2 / 4)
    for sample in outputs.samples:
        bad = sample.img_id in BAD
        assert ('unreadable' in sample) == bad
        assert (len(sample.pred_instances) == 0) == bad
        assert bool((sample.pred_image_scores == 0).all()) == bad
        assert ('pred_image_maps' in sample) == (not bad and pipeline is TEST)
    assert f'{name}: 2 of 6 images could not be read' in logged(runner)
    assert not (runner.model.module if pipeline is FLIPS else runner.model)._forward_hooks


def test_voc_counts_their_objects_as_missed(tmp_path):
    loader, evaluator = measured(tmp_path, 'voc')
    runner, metrics = run(tmp_path, loader, evaluator)
    results = {}
    for without in (PATHS, []):
        metric = VOCMetric()
        metric.dataset_meta = CLASSES
        for image, boxes in enumerate(BOXES):
            truth = InstanceData(
                bboxes=torch.tensor([box for box, _ in boxes]) - 1.0,
                labels=torch.tensor([('cat', 'dog').index(name) for _, name in boxes]),
            )
            found = prediction(image, truth)
            if f'{image}.jpg' in without:
                found = found[:0]
            metric.process(
                {},
                [
                    DetDataSample(
                        gt_instances=truth,
                        pred_instances=found,
                        ignored_instances=InstanceData(
                            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
                        ),
                    ).to_dict()
                ],
            )
        results[len(without)] = metric.evaluate(len(BOXES))['pascal_voc/mAP']
    assert metrics['pascal_voc/mAP'] == pytest.approx(results[2])
    assert results[0] > results[2] + 0.01


def test_without_the_hook_it_stops(tmp_path):
    with pytest.raises(RuntimeError, match='cannot prepare .*1.jpg: .*mmgwap.BadImagesHook'):
        run(tmp_path, *measured(tmp_path), hooks=[])


def test_measured_images_must_not_be_replaced(tmp_path):
    with pytest.raises(ValueError, match='coco.json: .*set test_mode=True'):
        run(tmp_path, *measured(tmp_path, test_mode=False))


def test_it_does_nothing_if_no_data_set_skips(tmp_path, monkeypatch):
    loader, evaluator = measured(tmp_path, on_bad_image='error')
    for path in PATHS:
        (tmp_path / 'img' / path).write_bytes((tmp_path / 'img' / '0.jpg').read_bytes())
    hooked = []
    monkeypatch.setattr(torch.nn.Module, 'register_forward_hook', lambda *args: hooked.append(args))
    monkeypatch.setattr('mmgwap.engine.hooks.bad_images_hook.all_reduce', None)
    runner, metrics = run(tmp_path, loader, evaluator)
    wanted = pycocotools_stats(tmp_path, [])[0]
    assert metrics['coco/bbox_mAP'] == pytest.approx(wanted, abs=6e-4)
    assert not hooked and 'could not be read' not in logged(runner)


def train(root, by_epoch, **options):
    """Two rounds of training and validation; the runner, and its paths."""
    (root / 'train').mkdir()
    loader, _ = measured(root / 'train', test_mode=False, **options)
    loader['sampler'] = dict(
        type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=False
    )
    loader['dataset']['pipeline'] = TEST
    val_loader, evaluator = measured(root)
    runner = Runner(
        dict(type='mmgwap.KnowsTheTruth'),
        work_dir=str(root / 'work'),
        default_scope='mmdet',
        experiment_name=f'{root.name}_{by_epoch}',
        custom_hooks=HOOK,
        train_dataloader=loader,
        val_dataloader=val_loader,
        val_cfg=dict(),
        val_evaluator=evaluator,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        train_cfg=dict(by_epoch=True, max_epochs=2)
        if by_epoch
        else dict(type='IterBasedTrainLoop', max_iters=6, val_interval=3),
    )
    runner.train()
    return runner


@pytest.mark.parametrize('by_epoch', [True, False])
def test_training_tells_how_many_and_which(by_epoch, tmp_path):
    runner = train(tmp_path, by_epoch)
    bad = [str(tmp_path / 'train' / 'img' / path) for path in PATHS]
    assert len(runner.model.seen) == 12 and not set(runner.model.seen) & set(bad)
    text = logged(runner)
    for start in ('train', 'end of training'):
        assert (
            text.count(
                f'{start}: 2 of 6 images could not be read and were skipped, such as {bad[0]}\n'
            )
            == 1
        )
    assert text.count('val: 2 of 6 images could not be read') == 1
    listed = tmp_path / 'work' / runner.timestamp / 'bad_images.txt'
    assert listed.read_text().splitlines() == [
        *bad,
        *(str(tmp_path / 'img' / path) for path in PATHS),
    ]


def test_it_says_nothing_of_whole_images(tmp_path):
    hook, told = BadImagesHook(), []
    loader, _ = measured(tmp_path, test_mode=False)
    dataset = DATASETS.build(loader['dataset'])
    runner = SimpleNamespace(
        train_loop=SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset)),
        log_dir=str(tmp_path),
        logger=SimpleNamespace(warning=told.append),
    )
    hook.before_train(runner)
    hook.after_train_epoch(runner)
    assert not told and not (tmp_path / 'bad_images.txt').exists()
    dataset[4]
    hook.after_train(runner)
    assert len(told) == 1 and 'end of training: 1 of 6' in told[0]


def test_all_processes_are_counted(tmp_path, monkeypatch):
    """Another process met image 1, this one image 4."""

    def reduce(marks, op):
        assert op == 'max'
        marks[1] = 1

    monkeypatch.setattr('mmgwap.engine.hooks.bad_images_hook.all_reduce', reduce)
    loader, _ = measured(tmp_path, test_mode=False)
    dataset = DATASETS.build(loader['dataset'])
    dataset[4]
    told, hook = [], BadImagesHook()
    runner = SimpleNamespace(log_dir=str(tmp_path), logger=SimpleNamespace(warning=told.append))
    hook._report(runner, 'train', skipping_datasets(dataset), 'were skipped')
    assert 'train: 2 of 6 images' in told[0]
    # What this process met stays its own.
    assert len(dataset.bad_images) == 1


def test_masks_go_with_boxes_and_what_is_not_known_is_refused():
    sample = DetDataSample(
        metainfo=dict(img_path='a.jpg', unreadable=True),
        pred_instances=InstanceData(bboxes=torch.ones(3, 4), masks=torch.ones(3, 8, 8, dtype=bool)),
        gt_instances=InstanceData(bboxes=torch.ones(2, 4)),
    )
    layer, hook = torch.nn.Identity(), BadImagesHook()
    layer.register_forward_hook(_drop_predictions)
    layer([sample])
    assert sample.pred_instances.masks.shape == (0, 8, 8)
    assert len(sample.gt_instances) == 2
    layer([sample])  # nothing is left to drop
    assert hook._handle is None
    sample.pred_sem_seg = PixelData(sem_seg=torch.ones(1, 8, 8))
    with pytest.raises(TypeError, match='a.jpg: .*cannot measure pred_sem_seg.*error'):
        layer([sample])
    assert layer(dict(loss=1)) == dict(loss=1)
