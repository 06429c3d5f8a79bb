"""DropDegenerateBoxes and PackPartialInputs."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData

from mmgwap.datasets import DropDegenerateBoxes, PackPartialInputs
from mmgwap.structures import PartialDataSample, image_labels, multi_hot

BOXES = np.array(
    [[10, 10, 40, 30], [10, 10, 10, 30], [np.nan, 0, 4, 4], [50, 20, 90, 60], [70, 10, 90, 30]],
    dtype=np.float32,
)
KEPT = [0, 3]


def with_bad_boxes(boxes=BOXES, **changes):
    return dict(
        gt_bboxes=boxes,
        gt_bboxes_labels=np.arange(5),
        gt_ignore_flags=np.arange(5) % 2 == 0,
        img_shape=(48, 64),
        img_path='some.jpg',
        **changes,
    )


@pytest.mark.parametrize('kind', [np.asarray, HorizontalBoxes])
def test_drop_bad_boxes_with_their_labels(kind):
    results = DropDegenerateBoxes()(with_bad_boxes(kind(BOXES)))
    boxes = results['gt_bboxes']
    boxes = boxes if kind is np.asarray else boxes.tensor.numpy()
    np.testing.assert_array_equal(boxes, BOXES[KEPT])
    assert results['gt_bboxes_labels'].tolist() == KEPT
    assert results['gt_ignore_flags'].tolist() == [True, False]
    assert results['dropped_labels'] == [1, 2, 4]


BITMAPS = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((5, 48, 64), np.uint8)


POLYGONS = [[np.full(6, float(i))] for i in range(5)]


@pytest.mark.parametrize('masks', [BitmapMasks(BITMAPS, 48, 64), PolygonMasks(POLYGONS, 48, 64)])
def test_drop_masks_with_their_boxes(masks):
    masks = DropDegenerateBoxes()(with_bad_boxes(gt_masks=masks))['gt_masks']
    assert [int(np.max(mask)) for mask in masks.masks] == KEPT


def test_good_boxes_are_not_copied():
    good = BOXES[[0, 3, 0, 3, 0]]
    results = DropDegenerateBoxes()(with_bad_boxes(good))
    assert results['gt_bboxes'] is good and 'dropped_labels' not in results


def test_warn_once_for_all_workers(warnings):
    transform = DropDegenerateBoxes()
    assert transform._reported.is_shared()
    for _ in range(3):
        transform(with_bad_boxes())
    (message,) = warnings
    assert message.startswith('some.jpg: dropped 3 boxes')


def pack(**changes):
    results = dict(
        img=np.zeros((8, 10, 3), np.uint8),
        img_path='a.jpg',
        img_id=1,
        gt_bboxes=np.array([[1, 1, 4, 4], [2, 2, 5, 5], [0, 0, 3, 3]], np.float32),
        gt_bboxes_labels=np.array([2, 0, 1]),
        gt_ignore_flags=np.array([False, False, True]),
    )
    packed = PackPartialInputs(meta_keys=('img_id', 'img_path'))(dict(results, **changes))
    assert packed['inputs'].shape == (3, 8, 10)
    return packed['data_samples']


def labels_only(present, ignored=()):
    return pack(has_boxes=False, image_labels=list(present), ignored_image_labels=list(ignored))


def test_pack_an_image_with_boxes():
    sample = pack()
    assert isinstance(sample, PartialDataSample) and sample.has_boxes
    assert sample.gt_instances.labels.tolist() == [2, 0]
    assert sample.ignored_instances.labels.tolist() == [1]
    assert sample.gt_image_labels.tolist() == [0, 2]
    assert sample.ignored_image_labels.tolist() == [1]
    assert (sample.img_id, sample.img_path) == (1, 'a.jpg')


@pytest.mark.parametrize(
    'changes, present, ignored',
    [
        (dict(gt_bboxes_labels=np.array([2, 1, 1])), [1, 2], []),
        (dict(dropped_labels=[0, 1, 3]), [0, 2], [1, 3]),
        (dict(dropped_labels=[]), [0, 2], [1]),
    ],
)
def test_present_classes_are_not_unknown(changes, present, ignored):
    sample = pack(**changes)
    assert sample.gt_image_labels.tolist() == present
    assert sample.ignored_image_labels.tolist() == ignored
    assert sample.ignored_image_labels.dtype is torch.int64


def test_pack_an_image_without_boxes():
    sample = labels_only([3], [0])
    assert not sample.has_boxes
    assert sample.gt_image_labels.tolist() == [3]
    assert sample.gt_image_labels.dtype is torch.int64
    assert sample.ignored_image_labels.tolist() == [0]
    assert 'gt_instances' not in sample and 'ignored_instances' not in sample
    assert 'empty_instances' in sample
    with pytest.raises(AttributeError, match='a.jpg.*MultiTaskDetector'):
        _ = sample.gt_instances
    for copy in (sample.to('cpu'), sample.clone(), sample.cpu()):
        assert copy.gt_image_labels.tolist() == [3]
        assert 'gt_instances' not in copy and not copy.has_boxes


def test_boxes_must_be_loaded():
    results = dict(img=np.zeros((8, 10, 3), np.uint8), img_path='a.jpg')
    with pytest.raises(ValueError, match='gt_bboxes_labels.*LoadAnnotations'):
        PackPartialInputs(meta_keys=())(results)


def test_multi_hot():
    sample = labels_only([3], [0])
    for form in (sample, sample.to_dict()):
        assert multi_hot(form, 5).tolist() == [-1, 0, 0, 1, 0]
    plain = pack()
    del plain.gt_image_labels, plain.ignored_image_labels
    for form in (plain, plain.to_dict()):
        assert multi_hot(form, 5).tolist() == [1, -1, 1, 0, 0]


@pytest.mark.parametrize('labels, ignored', [([5], []), ([-1], []), ([], [5])])
def test_labels_out_of_range(labels, ignored):
    with pytest.raises(ValueError, match='a.jpg.* 5 classes'):
        multi_hot(labels_only(labels, ignored), 5)


def test_samples_without_labels():
    with pytest.raises(ValueError, match='a.jpg.*PackPartialInputs'):
        image_labels(PartialDataSample(metainfo=dict(img_path='a.jpg')))
    # Empty boxes of an image without boxes give no labels, nor does None.
    bare = labels_only([])
    del bare.gt_image_labels
    bare.gt_instances = bare.empty_instances
    with pytest.raises(ValueError, match='a.jpg'):
        image_labels(bare)
    unloaded = DetDataSample(metainfo=dict(img_path='a.jpg'))
    unloaded.gt_instances = InstanceData()
    with pytest.raises(ValueError, match='a.jpg'):
        image_labels(unloaded)
