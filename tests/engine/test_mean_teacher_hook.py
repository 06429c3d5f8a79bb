"""MeanTeacherHook: the moving average, its report, and trainings with it."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Subset

from mmgwap.engine.hooks import MeanTeacherHook
from mmgwap.models.task_modules.pseudo_boxes import PseudoBoxStatistics

from .conftest import differing, state_of


class Net(nn.Module):
    """Two norms, and a convolution with two names, as in RTMDet's head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(2))
        self.second = self.first

    def forward(self, x):
        for norm in self.norms:
            x = norm(self.first(x))
        return x


def pair() -> nn.Module:
    model = nn.Module()
    model.student, model.teacher = Net(), Net()
    return model


@pytest.mark.parametrize('momentum', [0, 0.25, 1])
def test_teacher_equals_a_recursion(momentum):
    model, hook = pair(), MeanTeacherHook(momentum)
    expected = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    optimizer = torch.optim.SGD(model.student.parameters(), lr=1e-3)
    for step in range(4):
        model.student(torch.randn(2, 3, 4, 4) + step).pow(3).mean().backward()
        optimizer.step()
        hook.after_train_iter(SimpleNamespace(model=model), step)
        for key, value in model.student.state_dict().items():
            if key.endswith('num_batches_tracked'):
                expected[key] = value.clone()
            elif momentum != 0:
                expected[key] = (1 - momentum) * expected[key] + momentum * value
    for key, value in model.teacher.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-6, msg=key)
        exact = model.student.state_dict()[key] if momentum == 1 else expected[key]
        assert momentum == 0.25 or torch.equal(value, exact), key
    assert int(model.teacher.norms[0].num_batches_tracked) == 4


@pytest.mark.parametrize('momentum', [-0.1, 1.1, float('nan')])
def test_momentum_out_of_range(momentum):
    with pytest.raises(ValueError, match=f'momentum .*{momentum}'):
        MeanTeacherHook(momentum)


def test_model_without_a_teacher():
    model = nn.Module()
    model.student = Net()
    with pytest.raises(TypeError, match='a teacher and a student.*got Module'):
        MeanTeacherHook().before_train(SimpleNamespace(model=model))
    model.teacher = Net()
    MeanTeacherHook().before_train(SimpleNamespace(model=model, max_iters=9))
    assert model.follows_student


@pytest.mark.parametrize('burn_in', [8, 9])
def test_training_that_ends_before_the_burn_in(burn_in):
    model, warnings = pair(), []
    model.burn_in = burn_in
    logger = SimpleNamespace(warning=warnings.append)
    MeanTeacherHook().before_train(SimpleNamespace(model=model, max_iters=9, logger=logger))
    assert len(warnings) == (burn_in == 9)


@pytest.mark.parametrize('boxed', [0, 1])
@pytest.mark.parametrize('boxes', ['teacher', 'file'])
def test_training_without_images_with_boxes(boxes, boxed):
    model, dataset = pair(), Subset([0, 0, 0], range(3))
    model.boxes, dataset.boxed = boxes, np.arange(3) < boxed
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))
    runner = SimpleNamespace(model=model, max_iters=9, train_loop=loop)
    if boxed or boxes == 'file':
        MeanTeacherHook().before_train(runner)
        return
    with pytest.raises(ValueError, match='none of the training images has boxes'):
        MeanTeacherHook().before_train(runner)


@pytest.fixture
def report():
    """Function that runs an iteration; its ``calls`` are the scalars and warnings."""
    calls = SimpleNamespace(scalars={}, curves={}, warnings=[])
    model = pair()
    model.statistics = PseudoBoxStatistics(3, 100)
    runner = SimpleNamespace(
        model=model,
        iter=-1,
        message_hub=SimpleNamespace(update_scalar=calls.scalars.__setitem__),
        visualizer=SimpleNamespace(
            add_scalars=lambda values, step: calls.curves.update({step: values})
        ),
        logger=SimpleNamespace(warning=calls.warnings.append),
        train_loop=SimpleNamespace(
            dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=list('abc'))))
        ),
    )
    hook = MeanTeacherHook(report_interval=2)

    def run(counts, images):
        runner.iter += 1
        model.statistics.counts[:] = torch.tensor(counts)
        model.statistics.images[:] = torch.tensor(images)
        hook.after_train_iter(runner, runner.iter)
        return calls

    return run


def test_report(report):
    counts = [[4.0, 0, 6], [5, 19, 5], [8, 0, 12], [3, 0, 2], [4, 0, 6]]
    assert not report(counts, [20.0, 5, 2, 1]).scalars
    calls = report(counts, [20.0, 5, 2, 1])
    assert calls.scalars == pytest.approx(
        {
            'train/pseudo_boxes_per_image': 0.5,
            'train/pseudo_left_out': 0.25,
            'train/pseudo_masked': 0.1,
            'train/pseudo_precision': 0.5,
            'train/pseudo_recall': 0.25,
        }
    )
    assert list(calls.curves) == [2]
    names = {f'pseudo_boxes/{name}': rate for name, rate in zip('abc', (0.2, 0, 0.3))}
    assert calls.curves[2] == pytest.approx(names)
    assert not calls.warnings  # a class without boxes, but on 19 images only


def test_no_report_before_the_first_image(report):
    for _ in range(4):
        calls = report([[0.0] * 3] * 5, [0.0] * 4)
    assert not (calls.scalars or calls.curves or calls.warnings)


def test_classes_without_pseudo_boxes_are_named_once(report):
    zeros = [[0.0] * 3] * 3
    for present in ([20, 0, 19], [30, 0, 30], [40, 5, 40]):
        for _ in range(2):
            calls = report([[0.0, 0, 0], present, *zeros], [50.0, 0, 0, 0])
    assert len(calls.warnings) == 2
    assert 'no pseudo boxes of a so far' in calls.warnings[0]
    assert 'no pseudo boxes of c so far' in calls.warnings[1]


def test_strong_views_without_boxes_are_warned_about_once(report):
    counts = [[9.0] * 3] * 5
    for outside in (10, 11, 20):
        for _ in range(2):
            calls = report(counts, [20.0, outside, 0, outside])
        assert len(calls.warnings) == (outside > 10)
    assert '55% of the images' in calls.warnings[0] and 'PackTeacherView' in calls.warnings[0]


# Trainings of tests.toy_data.tiny_rfcn on digits, of which half have labels only.


def teacher_config(cfg) -> None:
    detector = copy.deepcopy(cfg.model)
    detector.test_cfg.rcnn.score_thr = 0.0
    load, flip = cfg.train_dataloader.dataset.pipeline[:2], dict(type='RandomFlip', prob=0.5)
    cfg.train_dataloader.dataset = dict(
        type='mmgwap.PartialBoxDataset',
        percent=50,
        dataset=cfg.train_dataloader.dataset,
        label_pipeline=[
            *load,
            flip,
            dict(type='mmgwap.PackTeacherView'),
            flip,
            dict(type='PackDetInputs'),
        ],
    )
    cfg.train_dataloader.batch_sampler = dict(type='mmgwap.PartialBoxBatchSampler', num_boxed=2)
    # The thresholds adapt from the second step on.
    teacher = dict(best_score=0.0, thresholds=(0.05, 0.9), window=30)
    cfg.model = dict(type='mmgwap.LabelGuidedTeacher', detector=detector, **teacher)
    cfg.custom_hooks = [
        *cfg.custom_hooks,
        dict(type='mmgwap.MeanTeacherHook', momentum=0.1, report_interval=1),
    ]


def test_resumed_run_equals_an_uninterrupted_run(training, tmp_path):
    """The teacher, the thresholds and the counts continue as if nothing had happened."""
    whole = state_of(training(4, 'whole', change=teacher_config))
    (path,) = (tmp_path / 'whole').glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    training(2, 'parts', change=teacher_config)
    resumed = training(4, 'parts', resume=True, change=teacher_config)
    assert not differing(whole, state_of(resumed))
    assert whole['model.iteration'] == 4 and whole['model.thresholds.images'].min() > 3
    assert whole['model.statistics.counts'][:3].sum(dim=1).min() > 0
    teacher, student = (
        whole[f'model.{part}.backbone.bn1.running_var'] for part in ('teacher', 'student')
    )
    assert not torch.equal(teacher, student) and not teacher.eq(1).any()
    logged = [row for row in rows if 'pseudo_boxes_per_image' in row]
    assert [row['step'] for row in logged] == [1, 2, 3, 4]
    assert all(
        0 < row['pseudo_boxes_per_image'] and 0 <= row['pseudo_recall'] <= 1 for row in logged
    )
    assert sum(row.get('pseudo_boxes/3', 0) > 0 for row in rows)


def test_validation_of_teacher_and_student(training):
    """mmdet's loop; its metrics carry the names of both models."""

    def change(cfg):
        teacher_config(cfg)
        cfg.val_cfg = dict(type='TeacherStudentValLoop')

    runner = training(1, change=change, **{'train_cfg.val_interval': 1})
    names = set(runner.message_hub.log_scalars)
    assert {'val/teacher/coco/bbox_mAP', 'val/student/coco/bbox_mAP'} <= names
    assert runner.model.semi_test_cfg['predict_on'] == 'teacher'
