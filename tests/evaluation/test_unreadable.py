"""Metrics count images that could not be read as wrong."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from .test_multi_label import evaluate as evaluate_labels
from .test_multi_label import sample as labeled
from .test_wsol_metric import SIZES, build, evaluate, loop_errors, loop_maps, sample
from .wsol_split import true_mask, write_split


def unreadable(image):
    """Make the prediction on an unreadable image, whose size and maps are missing."""
    empty = InstanceData(labels=torch.zeros(0, dtype=torch.long), bboxes=torch.zeros(0, 4))
    data_sample = sample(image, pred_image_scores=torch.zeros(6), pred_instances=empty)
    del data_sample['pred_image_maps']
    return dict(data_sample, unreadable=True, ori_shape=(32, 32))


@pytest.mark.parametrize('size', [(56, 64), None])
def test_wsol_measures_match_the_loops(tmp_path, size):
    write_split(tmp_path)
    samples = [sample(image, seed) for seed, image in enumerate(SIZES)]
    lost = ['a/2.jpg', 'b/3.jpg']
    found = evaluate(build(tmp_path, size=size, interval=0.01), [*samples, *map(unreadable, lost)])
    for name, value in loop_errors(samples).items():
        # 2 of 6 images are unreadable.
        wrong = 0 if name == 'gt_known' else 200
        assert found[name] == pytest.approx((value * 4 + wrong) / 6), name
    maps = loop_maps(samples, size, 0.01)
    for name in ('max_box_acc', 'max_box_acc_v2', 'max_box_acc_v2_50'):
        assert found[name] == pytest.approx(maps[name] * 4 / 6), name
    assert found['max_box_acc_threshold'] == maps['max_box_acc_threshold']
    # Object pixels of unreadable images are never found, at any threshold.
    read, missed = (sum(count_object_pixels(image, size) for image in x) for x in (SIZES, lost))
    assert found['px_ap'] == pytest.approx(maps['px_ap'] * read / (read + missed))


def count_object_pixels(image, size):
    mask = true_mask(image)
    if size:
        mask = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)
    return (mask == 1).sum()


def test_wsol_measures_without_a_readable_image(tmp_path):
    write_split(tmp_path)
    found = evaluate(build(tmp_path), map(unreadable, SIZES), 4)
    found.pop('max_box_acc_threshold')
    assert found == {name: 100 * name.endswith('error') for name in found}
    assert len(found) == 11


def test_wsol_measures_without_boxes_and_masks(tmp_path):
    write_split(tmp_path, {}, False)
    found = evaluate(build(tmp_path, mask_root=''), map(unreadable, SIZES), 4)
    assert found == dict(top1_error=100, top5_error=100)


def test_labels_are_never_found():
    rng = np.random.RandomState(0)
    scores, truth = rng.rand(12, 3), rng.rand(12, 3) < 0.5
    lost = [2, 3, 7]
    samples = [
        labeled(row.tolist(), np.flatnonzero(labels).tolist()) for row, labels in zip(scores, truth)
    ]
    for index in lost:
        samples[index]['unreadable'] = True
    found = evaluate_labels(samples)
    for c, name in enumerate('abc'):
        total, hits = 0.0, 0
        order = [i for i in np.argsort(-scores[:, c]) if i not in lost]
        for rank, i in enumerate(order, 1):
            hits += truth[i, c]
            total += truth[i, c] * hits / rank
        assert found[f'image/AP_{name}'] == pytest.approx(total / truth[:, c].sum())


def test_ap_of_classes_without_a_readable_image():
    samples = [
        labeled([0.9, 0.2, 0.1], [0], [2]),
        dict(labeled([0.9, 0.9, 0.9], [1], [2]), unreadable=True),
    ]
    found = evaluate_labels(samples)
    assert found['image/AP_a'] == 1 and found['image/AP_b'] == 0
    assert np.isnan(found['image/AP_c']) and found['image/mAP'] == 0.5
    found = evaluate_labels(samples[1:])
    assert found['image/mAP'] == 0 and np.isnan(found['image/AP_a'])
