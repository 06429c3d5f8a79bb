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


def test_detections_match_a_loop():
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


def test_drops_boxes_that_rounding_makes_flat():
    found = coco_detections(5, np.array([[1, 1, 1.00001, 9], [1, 1, 2, 9]]), np.ones(2), np.ones(2))
    assert len(found.entries) == found.without_area == 1


@pytest.mark.parametrize('box, score', [([0, 0, np.inf, 1], 1), ([0, 0, 1, 1], np.nan)])
def test_refuses_detections_that_are_not_finite(box, score):
    with pytest.raises(SubmissionError, match='image 5: 1 of 1 detections'):
        coco_detections(5, np.array([box]), np.array([score]), np.ones(1))


def test_image_without_detections():
    assert coco_detections(5, np.zeros((0, 4)), np.zeros(0), np.zeros(0)) == ([], 0, 0)


def test_submission_names():
    assert coco_submission_name('test-dev2017', 'a-1.5') == 'detections_test-dev2017_a-1.5_results'
    for name in ('', 'a_b', '../a', 'ä', 'a\n'):
        with pytest.raises(SubmissionError, match='letters, digits'):
            coco_submission_name('test-dev2017', name)


def test_zip_contains_only_the_json(tmp_path):
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


def test_requires_each_image_once():
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
    """Annotated images of val2017, and the same list of images without annotations."""
    root = write_coco(tmp_path_factory.mktemp('coco'), train=0, val=24, test=0)
    annotated = root / 'annotations' / 'instances_val2017.json'
    content = json.loads(annotated.read_text())
    del content['annotations']
    images_only = root / 'annotations' / 'image_info_test-dev2017.json'
    images_only.write_text(json.dumps(content))
    return annotated, images_only


def detect(annotated, num_false=8):
    """Make data samples of a detector that finds all objects, displaced, and false boxes."""
    api, rng = COCO(str(annotated)), np.random.RandomState(1)
    ids = api.getCatIds()
    samples = []
    for image in api.dataset['images']:
        annotations = api.imgToAnns[image['id']]
        boxes = np.array([annotation['bbox'] for annotation in annotations]).reshape(-1, 4)
        labels = [ids.index(annotation['category_id']) for annotation in annotations]
        boxes = np.concatenate([boxes, rng.rand(num_false, 4) * 40 + 1])
        boxes += rng.randn(*boxes.shape)
        boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:].clip(min=1)
        labels = np.concatenate([labels, rng.randint(0, 80, num_false)])
        instances = dict(
            bboxes=torch.tensor(boxes).float(),
            scores=torch.tensor(rng.rand(len(boxes))).float(),
            labels=torch.tensor(labels).long(),
        )
        shape = (image['height'], image['width'])
        samples.append(dict(img_id=image['id'], pred_instances=instances, ori_shape=shape))
    return samples


def count_detections(samples):
    return sum(len(sample['pred_instances']['scores']) for sample in samples)


def build_metric(images_only, out, samples, classes=None):
    metric = CocoSubmissionMetric(str(images_only), str(out), 'a')
    categories = json.loads(images_only.read_text())['categories']
    metric.dataset_meta = dict(
        classes=classes or tuple(category['name'] for category in categories)
    )
    metric.process({}, samples)
    return metric


def test_ap_of_the_file_equals_coco_metric(coco, tmp_path, monkeypatch):
    annotated, images_only = coco
    samples = detect(annotated)
    stats = []

    class RecordStats(COCOeval):
        def summarize(self):
            super().summarize()
            # mmdet asks for other numbers of detections than COCO.
            stats.append(self.stats[:6])

    monkeypatch.setattr(coco_metric, 'COCOeval', RecordStats)
    metric = CocoMetric(str(annotated), proposal_nums=(1, 10, 100))
    submission = build_metric(images_only, tmp_path, samples)
    metric.dataset_meta = submission.dataset_meta
    metric.process({}, samples)
    metric.evaluate(len(samples))
    counts = submission.evaluate(len(samples))

    with ZipFile(tmp_path / 'detections_test-dev2017_a_results.zip') as archive:
        results = json.loads(archive.read(archive.namelist()[0]))
    assert len(results) == counts['coco/detections'] == count_detections(samples)
    api = COCO(str(annotated))
    evaluation = COCOeval(api, api.loadRes(results), 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] > 0.1
    assert evaluation.stats[:6] == pytest.approx(stats[0], abs=1e-6)


def test_counts_dropped_detections(coco, tmp_path):
    annotated, images_only = coco
    samples = detect(annotated, num_false=140)
    samples[0]['pred_instances']['bboxes'][:3, 2] = 0  # x2 left of x1
    instances = samples[1]['pred_instances']
    samples[1]['pred_instances'] = {key: value[:0] for key, value in instances.items()}
    counts = build_metric(images_only, tmp_path, samples).evaluate(len(samples))
    assert counts['coco/images'] == 24
    assert counts['coco/images_with_detections'] == 23
    assert counts['coco/detections'] == 2300
    assert counts['coco/without_area'] >= 3
    dropped = counts['coco/surplus'] + counts['coco/without_area']
    assert dropped == count_detections(samples) - 2300


def test_refuses_untested_images_and_unknown_labels(coco, tmp_path):
    annotated, images_only = coco
    samples = detect(annotated)
    with pytest.raises(SubmissionError, match='1 of its 24 images were not tested'):
        build_metric(images_only, tmp_path, samples[:-1]).evaluate(23)
    samples[3]['pred_instances']['labels'][0] = 80
    with pytest.raises(SubmissionError, match='label 80'):
        build_metric(images_only, tmp_path, samples).evaluate(24)
    assert not list(tmp_path.glob('*.zip'))


@pytest.mark.parametrize('classes', [('bicycle', 'person'), ('person', 'unicorn')])
def test_refuses_classes_other_than_those_of_the_file(coco, tmp_path, classes):
    annotated, images_only = coco
    metric = build_metric(images_only, tmp_path, detect(annotated), classes)
    with pytest.raises(SubmissionError, match='bicycle|unicorn'):
        metric.evaluate(24)
