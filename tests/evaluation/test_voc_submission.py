"""Submissions to VOC's server, against the development kit's evaluation."""

import tarfile
from collections import defaultdict
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from mmdet.evaluation import VOCMetric

from mmgwap.datasets import CheckedVOCDataset, UnannotatedVOCDataset
from mmgwap.evaluation import VOCSubmissionMetric
from mmgwap.evaluation.functional import SubmissionError, voc_lines, write_voc_submission
from tests.toy_data import write_voc

CLASSES = CheckedVOCDataset.METAINFO['classes']


def test_lines_count_pixels_from_one():
    # An annotation 1 1 10 20 is 0 0 9 19 in mmdet.
    assert voc_lines('000005', np.array([[0.0, 0, 9, 19.25]]), np.array([0.125])) == [
        '000005 0.125000000000 1.0000 1.0000 10.0000 20.2500'
    ]
    assert voc_lines('000005', np.zeros((0, 4)), np.zeros(0)) == []
    for wrong in (np.nan, np.inf):
        with pytest.raises(SubmissionError, match='image 7: .* not finite'):
            voc_lines('7', np.array([[0, 0, wrong, 1]]), np.ones(1))
        with pytest.raises(SubmissionError, match='image 7: .* not finite'):
            voc_lines('7', np.array([[0, 0, 1, 1]]), np.array([wrong]))


@pytest.mark.parametrize('box', [[3, 1, 2, 2], [1, 3, 2, 2]])
def test_inverted_boxes_are_refused(box):
    with pytest.raises(SubmissionError, match='image 7: .* x1 > x2'):
        voc_lines('7', np.array([box]), np.ones(1))


def test_files_and_archive(tmp_path):
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


def noisy(devkit):
    """Data samples of a detector that finds most, somewhat displaced."""
    dataset = CheckedVOCDataset(
        data_root=str(devkit),
        ann_file='VOC2007/ImageSets/Main/test.txt',
        data_prefix=dict(sub_data_root='VOC2007/'),
        test_mode=True,
    )
    rng, samples = np.random.RandomState(0), []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        truth = [(one['bbox'], one['bbox_label'], one['ignore_flag']) for one in info['instances']]
        boxes = [np.array(box) + rng.randn(4) * 2 for box, *_ in truth]
        labels = [label for _, label, _ in truth]
        for box, label in zip(boxes[:3], labels[:3]):  # twice, or another
            boxes.append(box + 1)
            labels.append(rng.choice([label, 3]))
        samples.append(
            dict(
                img_id=info['img_id'],
                gt_instances=gather(truth, 0),
                ignored_instances=gather(truth, 1),
                pred_instances=dict(
                    bboxes=torch.tensor(np.reshape(boxes, (-1, 4))).float(),
                    scores=torch.tensor(rng.rand(len(boxes))).float(),
                    labels=torch.tensor(labels).long(),
                ),
            )
        )
    return dataset.metainfo, samples


def gather(truth, ignored):
    chosen = [one for one in truth if one[2] == ignored]
    return dict(
        bboxes=torch.tensor([one[0] for one in chosen]).reshape(-1, 4),
        labels=torch.tensor([one[1] for one in chosen]).long(),
    )


def metric_of(devkit, out, samples, meta):
    metric = VOCSubmissionMetric(str(devkit / 'VOC2007/ImageSets/Main/test.txt'), str(out), 2007)
    metric.dataset_meta = meta
    metric.process({}, samples)
    return metric


def kit_ap(devkit, lines, name):
    """AP50 of a class as VOCevaldet.m of 2007 has it."""
    truth, positives = {}, 0
    ids = (devkit / 'VOC2007/ImageSets/Main/test.txt').read_text().split()
    for image in ids:
        root = ElementTree.parse(devkit / f'VOC2007/Annotations/{image}.xml')
        truth[image] = []
        for obj in root.iter('object'):
            if obj.findtext('name') == name:
                box = [
                    int(obj.findtext(f'bndbox/{side}')) for side in ('xmin', 'ymin', 'xmax', 'ymax')
                ]
                hard = obj.findtext('difficult') == '1'
                truth[image].append(dict(box=box, hard=hard, found=False))
                positives += not hard
    rows = [line.split() for line in lines]
    rows.sort(key=lambda row: -float(row[1]))
    hits, misses, points = 0, 0, []
    for image, _, *box in rows:
        box, best, overlap = list(map(float, box)), None, -1
        for one in truth[image]:
            left, top = max(box[0], one['box'][0]), max(box[1], one['box'][1])
            width = min(box[2], one['box'][2]) - left + 1
            height = min(box[3], one['box'][3]) - top + 1
            if width > 0 and height > 0:
                areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, one['box'])]
                iou = width * height / (sum(areas) - width * height)
                if iou > overlap:
                    best, overlap = one, iou
        if overlap >= 0.5 and best['hard']:
            pass
        elif overlap >= 0.5 and not best['found']:
            hits, best['found'] = hits + 1, True
        else:
            misses += 1
        points.append((hits / max(positives, 1), hits, misses))
    if not positives:
        return None
    return np.mean(
        [
            max([h / (h + m) for recall, h, m in points if h + m and recall >= t], default=0)
            for t in np.arange(0, 1.1, 0.1)
        ]
    )


def test_ap_of_the_files_is_voc_metrics(devkit, tmp_path):
    meta, samples = noisy(devkit)
    metric = VOCMetric(eval_mode='11points')
    metric.dataset_meta = meta
    metric.process({}, samples)
    expected = metric.evaluate(len(samples))['pascal_voc/mAP']
    counts = metric_of(devkit, tmp_path, samples, meta).evaluate(len(samples))
    assert counts['pascal_voc/images'] == 30
    folder, lines = 'results/VOC2007/Main/comp4_det_test_', defaultdict(list)
    with tarfile.open(tmp_path / 'results_VOC2007.tar.gz') as archive:
        for name in CLASSES:
            text = archive.extractfile(f'{folder}{name}.txt').read().decode()
            lines[name] = text.splitlines()
    assert sum(map(len, lines.values())) == counts['pascal_voc/detections']
    aps = [kit_ap(devkit, lines[name], name) for name in CLASSES]
    aps = [ap for ap in aps if ap is not None]
    assert 0.2 < expected < 0.9
    assert np.mean(aps) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    'spoil, message',
    [
        (lambda samples: samples[1:], "such as '000005'; test on the whole set"),
        (lambda samples: samples + samples[:1], 'tested twice'),
        (
            lambda samples: [*samples, dict(samples[0], img_id='000004')],
            "does not list 1 .* such as '000004'",
        ),
    ],
)
def test_images_are_those_of_the_list(devkit, tmp_path, spoil, message):
    meta, samples = noisy(devkit)
    samples = spoil(samples)
    with pytest.raises(SubmissionError, match=message):
        metric_of(devkit, tmp_path, samples, meta).evaluate(len(samples))
    assert not list(tmp_path.glob('*.tar.gz'))


def test_a_class_that_the_data_set_lacks(devkit, tmp_path):
    meta, samples = noisy(devkit)
    samples[0]['pred_instances']['labels'][0] = 20
    with pytest.raises(SubmissionError, match='label 20'):
        metric_of(devkit, tmp_path, samples, meta).evaluate(len(samples))


def test_images_without_annotations(devkit):
    for year, count in ((2007, 30), (2012, 3)):
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
