"""Images that could not be read: metrics take them for wrong."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from ..references import wsol
from .test_multi_label import evaluate as evaluate_labels
from .test_multi_label import sample as labelled
from .test_wsol_metric import (
    SIZES,
    build,
    drawn,
    evaluate,
    loop_errors,
    loop_maps,
    on_image,
    sample,
)
from .wsol_split import LABELS, true_mask, write_split


def blank(image, **fields):
    """What is left of a prediction."""
    one = sample(
        image,
        pred_image_scores=torch.zeros(6),
        pred_instances=InstanceData(
            labels=torch.zeros(0, dtype=torch.long), bboxes=torch.zeros(0, 4)
        ),
        **fields,
    )
    del one['pred_image_maps']
    # Its size was not known.
    return dict(one, unreadable=True, ori_shape=(32, 32))


@pytest.fixture
def split(tmp_path):
    write_split(tmp_path)
    return tmp_path


@pytest.mark.parametrize('size', [(56, 64), None])
def test_wsol_against_the_loops(split, size):
    samples = [sample(image, seed) for seed, image in enumerate(SIZES)]
    lost = ['a/2.jpg', 'b/3.jpg']
    found = evaluate(build(split, size=size, interval=0.01), [*samples, *map(blank, lost)])
    errors = loop_errors(samples)
    for name, value in errors.items():  # of 6, two more are wrong
        wrong = 0 if name == 'gt_known' else 200
        assert found[name] == pytest.approx((value * 4 + wrong) / 6), name
    maps = loop_maps(samples, size, 0.01)
    for name in ('max_box_acc', 'max_box_acc_v2', 'max_box_acc_v2_50'):
        assert found[name] == pytest.approx(maps[name] * 4 / 6), name
    assert found['max_box_acc_threshold'] == maps['max_box_acc_threshold']
    pixels = {
        name: sum((resized_mask(image, size) == 1).sum() for image in images)
        for name, images in (('seen', SIZES), ('lost', lost))
    }
    assert found['px_ap'] == pytest.approx(maps['px_ap'] * pixels['seen'] / sum(pixels.values()))


def resized_mask(image, size):
    mask = true_mask(image)
    if size is None:
        return mask
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, mask.shape))
    return mask[np.ix_(rows, columns)]


def test_pixels_of_lost_objects_come_behind_all_thresholds(split):
    """The reference ranks them so low that no threshold takes them."""
    first, second = SIZES, ['a/1.jpg']
    samples = [sample(image, seed) for seed, image in enumerate(first)]
    found = evaluate(build(split, size=None, interval=0.01), [*samples, *map(blank, second)])
    maps = [on_image(one, LABELS[one['img_id']]) for one in samples]
    masks = [true_mask(image) for image in first]
    scores = np.concatenate(
        [wsol.normalized(one).ravel().astype(float) for one in maps]
        + [np.full(true_mask('a/1.jpg').size, -1.0)]
    )
    truth = np.concatenate([one.ravel() for one in (*masks, true_mask('a/1.jpg'))])
    total, last = 0.0, 0.0
    for threshold in [1.0, *np.arange(0, 1, 0.01)[::-1]]:
        taken = truth[scores >= threshold]
        true, false = (taken == 1).sum(), (taken == 0).sum()
        recall = true / (truth == 1).sum()
        total += true / max(true + false, 1) * (recall - last)
        last = recall
    assert last < 1
    assert found['px_ap'] == pytest.approx(100 * total)


def test_wsol_with_nothing_read(split):
    found = evaluate(build(split), map(blank, SIZES), 4)
    found.pop('max_box_acc_threshold')
    assert found == {name: 100 * name.endswith('error') for name in found}
    assert len(found) == 11


def test_wsol_processes_are_merged(split):
    samples = [drawn('a/1.jpg'), blank('b/4.jpg'), blank('b/3.jpg')]
    wanted = evaluate(build(split), samples)
    first, second = build(split), build(split)
    first.process({}, samples[:2])
    second.process({}, samples[2:])
    first.results += second.results
    assert evaluate(first, [], 3) == wanted
    assert wanted['top1_error'] == pytest.approx(200 / 3)


def test_wsol_needs_no_map_of_them_and_no_truth_but_labels(tmp_path):
    write_split(tmp_path, {}, False)
    found = evaluate(build(tmp_path, mask_root=''), map(blank, SIZES), 4)
    assert found == dict(top1_error=100, top5_error=100)


def test_labels_are_never_found():
    rng = np.random.RandomState(0)
    scores, truth = rng.rand(12, 3), rng.rand(12, 3) < 0.5
    lost = [2, 3, 7]
    samples = [
        labelled(row.tolist(), np.flatnonzero(labels).tolist())
        for row, labels in zip(scores, truth)
    ]
    for place in lost:  # whatever the model said
        samples[place]['unreadable'] = True
    found = evaluate_labels(samples)
    for c, name in enumerate('abc'):
        total, hits = 0.0, 0
        order = [i for i in np.argsort(-scores[:, c]) if i not in lost]
        for rank, i in enumerate(order, 1):
            hits += truth[i, c]
            total += truth[i, c] * hits / rank
        assert found[f'image/AP_{name}'] == pytest.approx(total / truth[:, c].sum())


def test_classes_of_which_no_image_was_read():
    samples = [
        labelled([0.9, 0.2, 0.1], [0], [2]),
        dict(labelled([0.9, 0.9, 0.9], [1], [2]), unreadable=True),
    ]
    found = evaluate_labels(samples)
    assert found['image/AP_a'] == 1 and found['image/AP_b'] == 0
    assert np.isnan(found['image/AP_c']) and found['image/mAP'] == 0.5
    found = evaluate_labels(samples[1:])
    assert found['image/mAP'] == 0 and np.isnan(found['image/AP_a'])
