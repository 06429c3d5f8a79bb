"""Submissions to VOC's server, against the development kit's evaluation."""

import tarfile
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from mmdet.evaluation import VOCMetric

from mmgwap.datasets import CheckedVOCDataset, UnannotatedVOCDataset
from mmgwap.evaluation import VOCSubmissionMetric
from mmgwap.evaluation.functional import SubmissionError, voc_lines, write_voc_submission
from tests.toy_data import write_voc

from ..references import wsol

CLASSES = CheckedVOCDataset.METAINFO['classes']


def test_lines_count_pixels_from_1():
    # An annotation 1 1 10 20 is 0 0 9 19 in mmdet.
    assert voc_lines('000005', np.array([[0.0, 0, 9, 19.25]]), np.array([0.125])) == [
        '000005 0.125000000000 1.0000 1.0000 10.0000 20.2500'
    ]
    assert voc_lines('000005', np.zeros((0, 4)), np.zeros(0)) == []


@pytest.mark.parametrize(
    'box, score, message',
    [
        ([0, 0, np.inf, 1], 1, 'not finite'),
        ([0, 0, 1, 1], np.nan, 'not finite'),
        ([3, 1, 2, 2], 1, 'x1 > x2'),
        ([1, 3, 2, 2], 1, 'y1 > y2'),
    ],
)
def test_refuses_boxes_that_are_not_finite_or_inverted(box, score, message):
    with pytest.raises(SubmissionError, match=f'image 7: .*{message}'):
        voc_lines('7', np.array([box]), np.array([score]))


def test_writes_files_and_archive(tmp_path):
    line = '1 0.5 1 1 2 2'
    write_voc_submission(dict(cat=[line], horse=[line]), tmp_path, 2012)
    path = write_voc_submission(dict(cat=[line], dog=[]), tmp_path, 2012)
    assert path == tmp_path / 'results_VOC2012.tar.gz'
    with tarfile.open(path) as archive:
        content = {
            member.name: archive.extractfile(member).read()
            for member in archive.getmembers()
            if member.isfile()
        }
    folder = 'results/VOC2012/Main/comp4_det_test_'
    assert content == {f'{folder}cat.txt': f'{line}\n'.encode(), f'{folder}dog.txt': b''}
    assert (tmp_path / f'{folder}cat.txt').read_text() == f'{line}\n'
    with pytest.raises(SubmissionError, match='no detections'):
        write_voc_submission(dict(cat=[]), tmp_path, 2012)
    assert not path.exists()  # the archive of the earlier run


@pytest.fixture(scope='module')
def devkit(tmp_path_factory):
    return write_voc(
        tmp_path_factory.mktemp('voc'), trainval2007=0, test2007=30, trainval2012=0, test2012=3
    )


def detect(devkit):
    """Make data samples of a detector that finds most objects, displaced, and false boxes."""
    dataset = CheckedVOCDataset(
        data_root=str(devkit),
        ann_file='VOC2007/ImageSets/Main/test.txt',
        data_prefix=dict(sub_data_root='VOC2007/'),
        test_mode=True,
    )
    rng, samples = np.random.RandomState(0), []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        boxes = [np.array(instance['bbox']) + rng.randn(4) * 2 for instance in info['instances']]
        labels = [instance['bbox_label'] for instance in info['instances']]
        for box, label in zip(boxes[:3], labels[:3]):
            boxes.append(box + 1)
            labels.append(rng.choice([label, 3]))
        predictions = dict(
            bboxes=torch.tensor(np.reshape(boxes, (-1, 4))).float(),
            scores=torch.tensor(rng.rand(len(boxes))).float(),
            labels=torch.tensor(labels).long(),
        )
        samples.append(
            dict(
                img_id=info['img_id'],
                gt_instances=gather(info['instances'], 0),
                ignored_instances=gather(info['instances'], 1),
                pred_instances=predictions,
            )
        )
    return dataset.metainfo, samples


def gather(instances, ignored):
    chosen = [instance for instance in instances if instance['ignore_flag'] == ignored]
    return dict(
        bboxes=torch.tensor([instance['bbox'] for instance in chosen]).reshape(-1, 4),
        labels=torch.tensor([instance['bbox_label'] for instance in chosen]).long(),
    )


def build_metric(devkit, out, samples, meta):
    metric = VOCSubmissionMetric(str(devkit / 'VOC2007/ImageSets/Main/test.txt'), str(out), 2007)
    metric.dataset_meta = meta
    metric.process({}, samples)
    return metric


def read_objects(devkit, name):
    """Read the objects of a class from the XML files, by image."""
    objects = {}
    for image in (devkit / 'VOC2007/ImageSets/Main/test.txt').read_text().split():
        root = ElementTree.parse(devkit / f'VOC2007/Annotations/{image}.xml')
        objects[image] = [
            dict(
                box=[int(obj.findtext(f'bndbox/{x}')) for x in ('xmin', 'ymin', 'xmax', 'ymax')],
                difficult=obj.findtext('difficult') == '1',
                found=False,
            )
            for obj in root.iter('object')
            if obj.findtext('name') == name
        ]
    return objects


def devkit_ap(devkit, lines, name):
    """Compute the AP50 of a class as VOCevaldet.m of 2007; None without objects."""
    objects = read_objects(devkit, name)
    positives = sum(not obj['difficult'] for each in objects.values() for obj in each)
    if not positives:
        return None
    rows = sorted((line.split() for line in lines), key=lambda row: -float(row[1]))
    hits, misses, points = 0, 0, []
    for image, _, *box in rows:
        box = list(map(float, box))
        ious = [wsol.iou(box, obj['box']) for obj in objects[image]]
        overlap = max(ious, default=0)
        best = objects[image][ious.index(overlap)] if overlap >= 0.5 else None
        if best is None or best['found'] and not best['difficult']:
            misses += 1
        elif not best['difficult']:
            hits, best['found'] = hits + 1, True
        points.append((hits / positives, hits / max(hits + misses, 1)))
    recalls = np.arange(0, 1.1, 0.1)
    return np.mean([max([p for r, p in points if r >= t], default=0) for t in recalls])


def test_ap_of_the_files_equals_voc_metric(devkit, tmp_path):
    meta, samples = detect(devkit)
    metric = VOCMetric(eval_mode='11points')
    metric.dataset_meta = meta
    metric.process({}, samples)
    expected = metric.evaluate(len(samples))['pascal_voc/mAP']
    counts = build_metric(devkit, tmp_path, samples, meta).evaluate(len(samples))
    assert counts['pascal_voc/images'] == 30
    folder = 'results/VOC2007/Main/comp4_det_test_'
    with tarfile.open(tmp_path / 'results_VOC2007.tar.gz') as archive:
        lines = {
            name: archive.extractfile(f'{folder}{name}.txt').read().decode().splitlines()
            for name in CLASSES
        }
    assert sum(map(len, lines.values())) == counts['pascal_voc/detections']
    aps = [devkit_ap(devkit, lines[name], name) for name in CLASSES]
    assert 0.2 < expected < 0.9
    assert np.mean([ap for ap in aps if ap is not None]) == pytest.approx(expected, abs=1e-6)


def test_refuses_untested_images_and_unknown_labels(devkit, tmp_path):
    meta, samples = detect(devkit)
    with pytest.raises(SubmissionError, match="such as '000005'"):
        build_metric(devkit, tmp_path, samples[1:], meta).evaluate(len(samples) - 1)
    samples[0]['pred_instances']['labels'][0] = 20
    with pytest.raises(SubmissionError, match='label 20'):
        build_metric(devkit, tmp_path, samples, meta).evaluate(len(samples))
    assert not list(tmp_path.glob('*.tar.gz'))


@pytest.mark.parametrize('year, count', [(2007, 30), (2012, 3)])
def test_data_set_without_annotations(devkit, year, count):
    options = dict(
        data_root=str(devkit),
        ann_file=f'VOC{year}/ImageSets/Main/test.txt',
        data_prefix=dict(sub_data_root=f'VOC{year}/'),
    )
    dataset = UnannotatedVOCDataset(test_mode=True, **options)
    assert len(dataset) == count
    assert dataset.metainfo['classes'] == CLASSES
    info = dataset.get_data_info(count - 1)
    assert info['instances'] == []
    assert info['img_path'] == str(devkit / f'VOC{year}/JPEGImages/{info["img_id"]}.jpg')
    with pytest.raises(ValueError, match='test_mode'):
        UnannotatedVOCDataset(**options)
