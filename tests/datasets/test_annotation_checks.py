"""Degenerate boxes, classes and empty data sets, in COCO and VOC layout."""

import math

import pytest
import torch
from mmdet.datasets import XMLDataset
from mmdet.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate

from mmgwap.datasets import CheckedXMLDataset
from mmgwap.datasets.annotation_checks import is_degenerate
from tests.toy_data import tiny_rfcn

from .helpers import CLASSES, GOOD, checked, infos, voc

BAD = dict(
    zero_width=[10, 10, 10, 30],
    zero_height=[10, 10, 40, 10],
    inverted=[40, 30, 10, 10],
    nan=[10, math.nan, 40, 30],
    infinite=[10, 10, math.inf, 30],
    left_of_image=[-30, 10, -2, 30],
    right_of_image=[70, 10, 90, 30],
    below_image=[10, 50, 40, 60],
)
both_layouts = pytest.mark.parametrize('kind', ['coco', 'voc'])


@pytest.mark.parametrize('bad', BAD.values(), ids=BAD.keys())
def test_is_degenerate(bad):
    assert is_degenerate([GOOD, bad, GOOD], 64, 48).tolist() == [False, True, False]


def test_boxes_across_the_border_are_kept():
    boxes = [[-5, -5, 3, 3], [60, 40, 90, 90], [0, 0, 64, 48], [63.5, 47.5, 64, 48]]
    assert not is_degenerate(boxes, 64, 48).any()
    assert is_degenerate(boxes, 64, 48, min_size=1).tolist() == [False, False, False, True]
    assert is_degenerate([], 64, 48).shape == (0,)


@both_layouts
def test_bad_boxes_are_dropped_with_one_warning(kind, tmp_path, warnings):
    boxes = [[(GOOD, 'cat')]]
    boxes += [[(bad, 'dog'), (GOOD, 'dog')] for bad in BAD.values()]
    shift = dict(coco=0, voc=1)[kind]
    for info in infos(checked(kind, tmp_path, boxes)):
        assert [obj['bbox'] for obj in info['instances']] == [[x - shift for x in GOOD]]
    (message,) = warnings
    assert f'dropped {len(BAD)} boxes' in message and f'in {len(BAD)} images' in message
    assert message.endswith(dict(coco='1.jpg', voc='1.xml')[kind])


@both_layouts
def test_images_without_objects_are_kept_without_warning(kind, tmp_path, warnings):
    dataset = checked(kind, tmp_path, [[(GOOD, 'cat')], []])
    assert len(dataset) == 2 and warnings == []
    assert dataset[1]['data_samples'].gt_instances.bboxes.shape == (0, 4)


@pytest.mark.parametrize('kind, where', [('coco', 'coco.json, annotation 2'), ('voc', '1.xml')])
def test_unlisted_category(kind, where, tmp_path):
    boxes = [[(GOOD, 'cat')], [(GOOD, 'dog')]]
    only_cats = dict(classes=('cat',))
    with pytest.raises(ValueError, match=f"{where}: category 'dog'"):
        checked(kind, tmp_path, boxes, metainfo=only_cats)
    dataset = checked(kind, tmp_path, boxes, metainfo=only_cats, unlisted_categories='ignore')
    assert [len(info['instances']) for info in infos(dataset)] == [1, 0]
    with pytest.raises(ValueError, match="unlisted_categories .* got 'no'"):
        checked(kind, tmp_path, boxes, unlisted_categories='no')


@pytest.mark.parametrize(
    'classes, told',
    [
        (('cat', 'cat', 'dog'), "lists 'cat' 2 times"),
        ('cat', "got 'cat'"),
        (('cat', 5), "got .'cat', 5"),
        ((), r'got \(\)'),
        (7, 'got 7'),
    ],
)
@both_layouts
def test_class_names(kind, classes, told, tmp_path):
    with pytest.raises(ValueError, match=f'^Checked(Coco|XML)Dataset.*{told}'):
        checked(kind, tmp_path, metainfo=dict(classes=classes))


@both_layouts
@pytest.mark.parametrize(
    'boxes, options', [([], {}), ([[]], dict(filter_cfg=dict(filter_empty_gt=True)))]
)
def test_no_image_left(kind, boxes, options, tmp_path):
    with pytest.raises(ValueError, match=r'(coco.json|voc.txt): no image left to train'):
        checked(kind, tmp_path, boxes, **options)


@both_layouts
def test_box_limit(kind, tmp_path):
    boxes = [[(GOOD, 'cat')], [(GOOD, 'cat')] * 5]
    assert (
        len(checked(kind, tmp_path, boxes, max_boxes_per_image=5)[1]['data_samples'].gt_instances)
        == 5
    )
    where = dict(coco='coco.json, image 1', voc='1.xml')[kind]
    with pytest.raises(ValueError, match=f'{where}: has 5 boxes.* max_boxes_per_image=4'):
        checked(kind, tmp_path, boxes, max_boxes_per_image=4)
    with pytest.raises(ValueError, match='has 10001 boxes.*max_boxes_per_image=10000'):
        checked(kind, tmp_path, [[(GOOD, 'cat')] * 10001])


@pytest.mark.parametrize('cls, is_finite', [(CheckedXMLDataset, True), (XMLDataset, False)])
def test_training_on_bad_boxes_stays_finite(tmp_path, cls, is_finite):
    """The loss is not finite without the check."""
    cfg = voc(tmp_path, [[(BAD['zero_width'], 'dog'), (GOOD, 'cat')]] * 2)
    dataset = DATASETS.build(dict(cfg, type=cls))
    torch.manual_seed(0)
    model = MODELS.build(tiny_rfcn(num_classes=len(CLASSES['classes'])))
    data = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), True)
    losses = model(**data, mode='loss')
    assert bool(torch.isfinite(model.parse_losses(losses)[0])) == is_finite
