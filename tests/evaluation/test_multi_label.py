import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmgwap.registry import METRICS

from .test_average_precision import loop


def sample(scores, labels=None, ignored=(), boxes=None):
    result = DetDataSample(metainfo=dict(img_path='a.jpg'))
    result.pred_image_scores = torch.tensor(scores)
    if labels is not None:
        result.gt_image_labels = torch.tensor(labels, dtype=torch.int64)
        result.ignored_image_labels = torch.tensor(ignored, dtype=torch.int64)
    if boxes is not None:
        result.gt_instances = InstanceData(labels=torch.tensor(boxes))
    return result.to_dict()


def evaluate(samples, **kwargs):
    metric = METRICS.build(dict(type='mmgwap.MultiLabelMetric', **kwargs))
    metric.dataset_meta = dict(classes=('a', 'b', 'c'))
    for data_sample in samples:
        metric.process({}, [data_sample])
    return metric.evaluate(len(samples))


def test_matches_a_loop():
    rng = np.random.RandomState(0)
    scores = rng.rand(40, 3).astype(np.float32)
    truth = rng.rand(40, 3) < 0.4
    metrics = evaluate(
        [sample(s.tolist(), np.flatnonzero(t).tolist()) for s, t in zip(scores, truth)]
    )
    expected = [loop(scores[:, c], truth[:, c]) for c in range(3)]
    assert [metrics[f'image/AP_{c}'] for c in 'abc'] == pytest.approx(expected, abs=1e-6)
    assert metrics['image/mAP'] == pytest.approx(np.mean(expected), abs=1e-6)


def test_unknown_labels_do_not_count():
    unknown = sample([0.9, 0.5, 0.5], [], [0])
    metrics = evaluate([unknown, sample([0.5, 0.5, 0.5], [0]), sample([0.1, 0.1, 0.1], [])])
    assert metrics['image/AP_a'] == 1
    assert np.isnan(metrics['image/AP_b'])
    assert metrics['image/mAP'] == 1  # mean over the classes that occur


def test_reads_labels_of_boxes():
    metrics = evaluate(
        [sample([0.9, 0.5, 0.5], boxes=[0, 0, 2]), sample([0.1, 0.5, 0.6], boxes=[2])]
    )
    assert metrics['image/AP_a'] == metrics['image/AP_c'] == 1


def test_reports_the_mean_only():
    metrics = evaluate([sample([0.9, 0.5, 0.5], [0])], classwise=False, prefix='labels')
    assert metrics == {'labels/mAP': 1}


@pytest.mark.parametrize('scores', [None, [0.1, 0.2]])
def test_refuses_missing_and_too_few_scores(scores):
    data_sample = sample(scores or [0.0], [0])
    if scores is None:
        del data_sample['pred_image_scores']
    with pytest.raises(ValueError, match='a.jpg: .*3 values, got'):
        evaluate([data_sample])
