import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmgwap.registry import METRICS

from .test_average_precision import loop


def sample(scores, labels=None, ignored=(), boxes=None):
    one = DetDataSample(metainfo=dict(img_path='a.jpg'))
    one.pred_image_scores = torch.tensor(scores)
    if labels is not None:
        one.gt_image_labels = torch.tensor(labels, dtype=torch.int64)
        one.ignored_image_labels = torch.tensor(ignored, dtype=torch.int64)
    if boxes is not None:
        one.gt_instances = InstanceData(labels=torch.tensor(boxes))
    return one.to_dict()


def evaluate(samples, **kwargs):
    metric = METRICS.build(dict(type='mmgwap.MultiLabelMetric', **kwargs))
    metric.dataset_meta = dict(classes=('a', 'b', 'c'))
    for one in samples:
        metric.process({}, [one])
    return metric.evaluate(len(samples))


def test_against_a_loop():
    rng = np.random.RandomState(0)
    scores = rng.rand(40, 3).astype(np.float32)
    truth = rng.rand(40, 3) < 0.4
    metrics = evaluate(
        [sample(s.tolist(), np.flatnonzero(t).tolist()) for s, t in zip(scores, truth)]
    )
    wanted = [loop(scores[:, c], truth[:, c]) for c in range(3)]
    assert np.abs(np.array([metrics[f'image/AP_{c}'] for c in 'abc']) - wanted).max() < 1e-6
    assert abs(metrics['image/mAP'] - np.mean(wanted)) < 1e-6


def test_unknown_labels_do_not_count():
    rows = [
        sample([0.9, 0.5, 0.5], [], [0]),
        sample([0.5, 0.5, 0.5], [0]),
        sample([0.1, 0.1, 0.1], []),
    ]
    metrics = evaluate(rows)
    assert metrics['image/AP_a'] == 1  # the first would come before it
    assert np.isnan(metrics['image/AP_b'])
    assert metrics['image/mAP'] == 1  # over the classes that occur


def test_labels_of_boxes():
    rows = [sample([0.9, 0.5, 0.5], boxes=[0, 0, 2]), sample([0.1, 0.5, 0.6], boxes=[2])]
    assert evaluate(rows)['image/AP_a'] == 1
    assert evaluate(rows)['image/AP_c'] == 1


def test_without_classes(caplog):
    metrics = evaluate([sample([0.9, 0.5, 0.5], [0])], classwise=False, prefix='labels')
    assert metrics == {'labels/mAP': 1}


@pytest.mark.parametrize('scores', [None, [0.1, 0.2]])
def test_wrong_scores(scores):
    one = sample(scores or [0.0], [0])
    if scores is None:
        del one['pred_image_scores']
    with pytest.raises(ValueError, match='a.jpg: .*3 values, got'):
        evaluate([one])
