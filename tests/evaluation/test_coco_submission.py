"""Submissions to COCO's server, against pycocotools and a loop."""

import json
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmdet.evaluation.metrics import coco_metric
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmgwap.evaluation import CocoSubmissionMetric
from mmgwap.evaluation.functional import (
    SubmissionError,
    check_tested,
    coco_detections,
    coco_submission_name,
    write_coco_submission,
)
from tests.toy_data import write_coco

GOOD = dict(image_id=7, category_id=18, bbox=[1, 2.5, 3, 4], score=0.5)


def test_detections_of_an_image_against_a_loop():
    rng = np.random.RandomState(0)
    boxes = rng.rand(300, 4).astype(np.float32) * 50
    boxes[:, 2:] += 50
    boxes[::7, 2] = boxes[::7, 0]  # no width
    boxes[3::50, 3] = boxes[3::50, 1] - 1  # upside down
    scores = rng.randint(0, 20, 300).astype(np.float32) / 20  # many equal
    ids = rng.randint(1, 91, 300)
    kept = []
    for i in range(300):
        x1, y1, x2, y2 = boxes[i].astype(float)
        if x2 > x1 and y2 > y1:
            kept.append((-scores[i], i, [x1, y1, x2 - x1, y2 - y1]))
    found = coco_detections(5, boxes, scores, ids)
    assert len(found.entries) == 100
    assert found.without_area == 300 - len(kept) > 40
    assert found.surplus == len(kept) - 100
    for entry, (score, i, box) in zip(found.entries, sorted(kept)):
        assert entry['image_id'] == 5 and entry['category_id'] == ids[i]
        assert entry['score'] == -score
        assert entry['bbox'] == pytest.approx(box, abs=1e-4)
    json.dumps(found.entries, allow_nan=False)  # plain numbers only


def test_a_box_that_rounding_flattens_has_no_area():
    found = coco_detections(5, np.array([[1, 1, 1.00001, 9], [1, 1, 2, 9]]), np.ones(2), np.ones(2))
    assert len(found.entries) == found.without_area == 1


@pytest.mark.parametrize(
    'box, score', [([0, 0, np.inf, 1], 1), ([0, np.nan, 1, 1], 1), ([0, 0, 1, 1], np.nan)]
)
def test_detections_that_are_not_finite(box, score):
    with pytest.raises(SubmissionError, match='image 5: 1 of 1 detections'):
        coco_detections(5, np.array([box]), np.array([score]), np.ones(1))


def test_an_image_without_detections():
    assert coco_detections(5, np.zeros((0, 4)), np.zeros(0), np.zeros(0)) == ([], 0, 0)


def test_names():
    assert coco_submission_name('test-dev2017', 'a-1.5') == 'detections_test-dev2017_a-1.5_results'
    for name in ('', 'a_b', 'a b', '../a', 'ä', 'a\n'):
        with pytest.raises(SubmissionError, match='letters, digits'):
            coco_submission_name('test-dev2017', name)


def test_zip_holds_the_json_only(tmp_path):
    name = 'detections_test-dev2017_v1.5_results'
    path = write_coco_submission([GOOD], tmp_path / 'out', name)
    assert path == tmp_path / 'out' / f'{name}.zip'
    with ZipFile(path) as archive:
        assert archive.namelist() == [f'{name}.json']
        content = archive.read(f'{name}.json')
        assert archive.testzip() is None
    assert content == path.with_suffix('.json').read_bytes() and json.loads(content) == [GOOD]
    with pytest.raises(SubmissionError, match=f'{name}.*no detections'):
        write_coco_submission([], tmp_path / 'out', name)
    assert not list((tmp_path / 'out').iterdir())  # the files of the earlier run are gone


def test_all_images_are_tested_once():
    check_tested([2, 1], [1, 2], 'file')
    for tested, message in (
        [[1], '1 of its 2 images were not tested, such as 2'],
        [[1, 2, 3], 'does not list 1 .* such as 3'],
        [[1, 2, 2], '1 images were tested twice'],
    ):
        with pytest.raises(SubmissionError, match=f'^file: .*{message}'):
            check_tested(tested, [1, 2], 'file')


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    """The annotated images of val2017, and the bare list of the same."""
    root = write_coco(tmp_path_factory.mktemp('coco'), train=0, val=24, test=0)
    truth = root / 'annotations' / 'instances_val2017.json'
    content = json.loads(truth.read_text())
    del content['annotations']
    bare = root / 'annotations' / 'image_info_test-dev2017.json'
    bare.write_text(json.dumps(content))
    return truth, bare


def noisy(truth, junk=8):
    """Data samples as of a detector that finds most, somewhat displaced."""
    api, rng = COCO(str(truth)), np.random.RandomState(1)
    ids = api.getCatIds()
    samples = []
    for image in api.dataset['images']:
        anns = api.imgToAnns[image['id']]
        boxes = np.array([ann['bbox'] for ann in anns]).reshape(-1, 4)
        labels = [ids.index(ann['category_id']) for ann in anns]
        boxes = np.concatenate([boxes, rng.rand(junk, 4) * 40 + 1])
        boxes += rng.randn(*boxes.shape)
        boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:].clip(min=1)
        labels = np.concatenate([labels, rng.randint(0, 80, junk)])
        found = dict(
            bboxes=torch.tensor(boxes, dtype=torch.float32),
            scores=torch.tensor(rng.rand(len(boxes)), dtype=torch.float32),
            labels=torch.tensor(labels, dtype=torch.int64),
        )
        samples.append(
            dict(
                img_id=image['id'],
                pred_instances=found,
                ori_shape=(image['height'], image['width']),
            )
        )
    return samples


def metric_of(bare, out, samples, classes=None, algorithm='a'):
    metric = CocoSubmissionMetric(str(bare), str(out), algorithm)
    metric.dataset_meta = dict(
        classes=classes or tuple(cat['name'] for cat in json.loads(bare.read_text())['categories'])
    )
    metric.process({}, samples)
    return metric


def test_ap_of_the_file_is_coco_metrics(coco, tmp_path, monkeypatch):
    truth, bare = coco
    samples = noisy(truth)
    stats = []

    class Recorded(COCOeval):
        def summarize(self):
            super().summarize()
            # mmdet asks for other numbers of detections than COCO.
            stats.append(self.stats[:6])

    monkeypatch.setattr(coco_metric, 'COCOeval', Recorded)
    metric = CocoMetric(str(truth), proposal_nums=(1, 10, 100))
    ours = metric_of(bare, tmp_path, samples)
    metric.dataset_meta = ours.dataset_meta
    metric.process({}, samples)
    metric.evaluate(len(samples))
    counts = ours.evaluate(len(samples))

    with ZipFile(tmp_path / 'detections_test-dev2017_a_results.zip') as zipped:
        results = json.loads(zipped.read(zipped.namelist()[0]))
    assert (
        len(results)
        == counts['coco/detections']
        == sum(len(one['pred_instances']['scores']) for one in samples)
    )
    api = COCO(str(truth))
    evaluation = COCOeval(api, api.loadRes(results), 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] > 0.1
    # The areas of the objects, and with them all six.
    assert evaluation.stats[:6] == pytest.approx(stats[0], abs=1e-6)


def test_what_is_left_out_is_counted(coco, tmp_path):
    truth, bare = coco
    samples = noisy(truth, junk=140)
    samples[0]['pred_instances']['bboxes'][:3, 2] = 0  # x2 left of x1
    samples[1]['pred_instances'] = {
        key: value[:0] for key, value in samples[1]['pred_instances'].items()
    }
    counts = metric_of(bare, tmp_path, samples).evaluate(len(samples))
    assert counts['coco/images'] == 24
    assert counts['coco/images_with_detections'] == 23
    assert counts['coco/detections'] == 2300
    assert counts['coco/without_area'] >= 3
    assert (
        counts['coco/surplus'] + counts['coco/without_area']
        == sum(len(one['pred_instances']['scores']) for one in samples) - 2300
    )


def none_found(samples):
    for one in samples:
        one['pred_instances'] = {key: value[:0] for key, value in one['pred_instances'].items()}
    return samples


def of_class_80(samples):
    samples[3]['pred_instances']['labels'][0] = 80
    return samples


@pytest.mark.parametrize(
    'spoil, message',
    [
        (lambda samples: samples[:-1], '1 of its 24 images were not tested'),
        (lambda samples: samples + samples[:1], '1 images were tested twice'),
        (none_found, 'no detections'),
        (of_class_80, 'label 80'),
    ],
)
def test_results_that_are_not_submitted(coco, tmp_path, spoil, message):
    truth, bare = coco
    samples = spoil(noisy(truth))
    metric = metric_of(bare, tmp_path, samples)
    with pytest.raises(SubmissionError, match=message) as error:
        metric.evaluate(len(samples))
    assert '\n' not in str(error.value)
    assert not list(tmp_path.glob('*.zip'))


@pytest.mark.parametrize('classes', [('bicycle', 'person'), ('person', 'unicorn')])
def test_classes_have_to_be_the_files(coco, tmp_path, classes):
    truth, bare = coco
    metric = metric_of(bare, tmp_path, noisy(truth), classes)
    with pytest.raises(SubmissionError, match='bicycle|unicorn'):
        metric.evaluate(24)
