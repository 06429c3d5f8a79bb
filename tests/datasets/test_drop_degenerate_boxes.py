"""The transform, for data sets that do not check themselves."""

import numpy as np
import pytest
import torch
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmdet.utils import register_all_modules

register_all_modules()
BOXES = np.array(
    [[10, 10, 40, 30], [10, 10, 10, 30], [np.nan, 0, 4, 4], [50, 20, 90, 60], [70, 10, 90, 30]],
    dtype=np.float32,
)
KEPT = [0, 3]


def sample(boxes):
    return dict(
        gt_bboxes=boxes,
        gt_bboxes_labels=np.arange(5),
        gt_ignore_flags=np.arange(5) % 2 == 0,
        img_shape=(48, 64),
        img_path='some.jpg',
    )


@pytest.mark.parametrize('kind', [np.asarray, HorizontalBoxes])
def test_bad_boxes_leave_with_all_that_belongs_to_them(kind):
    transform = TRANSFORMS.build(dict(type='mmgwap.DropDegenerateBoxes'))
    results = transform(sample(kind(BOXES)))
    boxes = results['gt_bboxes']
    boxes = boxes if kind is np.asarray else boxes.tensor.numpy()
    np.testing.assert_array_equal(boxes, BOXES[KEPT])
    assert results['gt_bboxes_labels'].tolist() == KEPT
    assert results['gt_ignore_flags'].tolist() == [True, False]


@pytest.mark.parametrize(
    'masks',
    [
        BitmapMasks(
            np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((5, 48, 64), np.uint8), 48, 64
        ),
        PolygonMasks([[np.full(6, float(i))] for i in range(5)], 48, 64),
    ],
)
def test_masks_leave_too(masks):
    transform = TRANSFORMS.build(dict(type='mmgwap.DropDegenerateBoxes'))
    left = transform(dict(sample(BOXES), gt_masks=masks))['gt_masks']
    assert len(left) == 2
    assert [int(np.max(mask)) for mask in left.masks] == KEPT


def test_good_boxes_are_untouched():
    transform = TRANSFORMS.build(dict(type='mmgwap.DropDegenerateBoxes'))
    good = BOXES[[0, 3, 0, 3, 0]]
    assert transform(sample(good))['gt_bboxes'] is good


def test_one_warning_names_the_first_file(warnings):
    transform = TRANSFORMS.build(dict(type='mmgwap.DropDegenerateBoxes'))
    for _ in range(3):
        transform(sample(BOXES))
    assert len(warnings) == 1
    assert warnings[0].startswith('some.jpg: dropped 3 boxes')


def test_workers_share_the_warning():
    transform = TRANSFORMS.build(dict(type='mmgwap.DropDegenerateBoxes'))
    assert transform._reported.is_shared()
    assert torch.equal(transform._reported, torch.tensor([False]))
