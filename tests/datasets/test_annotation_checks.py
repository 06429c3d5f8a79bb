"""Degenerate boxes, classes and empty data sets, in the layouts of COCO, VOC and YOLO."""

import math

import pytest

from mmgwap.datasets.annotation_checks import is_degenerate

from .helpers import GOOD, checked, infos

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
all_layouts = pytest.mark.parametrize('kind', ['coco', 'voc', 'yolo'])


@pytest.mark.parametrize('bad', BAD.values(), ids=BAD.keys())
def test_degenerate_boxes(bad):
    assert is_degenerate([GOOD, bad, GOOD], 64, 48).tolist() == [False, True, False]


def test_keep_boxes_across_the_border():
    boxes = [[-5, -5, 3, 3], [60, 40, 90, 90], [0, 0, 64, 48], [63.5, 47.5, 64, 48]]
    assert not is_degenerate(boxes, 64, 48).any()
    assert is_degenerate([], 64, 48).shape == (0,)


@both_layouts
def test_drop_degenerate_boxes_with_one_warning(kind, tmp_path, warnings):
    boxes = [[(GOOD, 'cat')]]
    boxes += [[(bad, 'dog'), (GOOD, 'dog')] for bad in BAD.values()]
    shift = dict(coco=0, voc=1)[kind]
    for info in infos(checked(kind, tmp_path, boxes)):
        assert [obj['bbox'] for obj in info['instances']] == [[x - shift for x in GOOD]]
    (message,) = warnings
    assert f'dropped {len(BAD)} boxes' in message and f'in {len(BAD)} images' in message
    assert message.endswith(dict(coco='1.jpg', voc='1.xml')[kind])


@all_layouts
def test_keep_images_without_objects(kind, tmp_path, warnings):
    dataset = checked(kind, tmp_path, [[(GOOD, 'cat')], []])
    assert len(dataset) == 2 and warnings == []
    assert dataset[1]['data_samples'].gt_instances.bboxes.shape == (0, 4)


@pytest.mark.parametrize(
    'kind, where',
    [('coco', 'coco.json, annotation 2'), ('voc', '1.xml'), ('yolo', '1.txt, line 1')],
)
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
    'classes, message',
    [
        (('cat', 'cat', 'dog'), "lists 'cat' 2 times"),
        ('cat', "got 'cat'"),
        (('cat', 5), "got .'cat', 5"),
        ((), r'got \(\)'),
    ],
)
@all_layouts
def test_wrong_class_names(kind, classes, message, tmp_path):
    with pytest.raises(ValueError, match=f'^(CheckedCoco|CheckedXML|YOLO)Dataset.*{message}'):
        checked(kind, tmp_path, metainfo=dict(classes=classes))


@both_layouts
@pytest.mark.parametrize(
    'boxes, options', [([], {}), ([[]], dict(filter_cfg=dict(filter_empty_gt=True)))]
)
def test_refuse_data_sets_without_images(kind, boxes, options, tmp_path):
    with pytest.raises(ValueError, match=r'(coco.json|voc.txt): no image left to train'):
        checked(kind, tmp_path, boxes, **options)


@both_layouts
def test_box_limit(kind, tmp_path):
    boxes = [[(GOOD, 'cat')], [(GOOD, 'cat')] * 5]
    assert len(infos(checked(kind, tmp_path, boxes, max_boxes_per_image=5))[1]['instances']) == 5
    where = dict(coco='coco.json, image 1', voc='1.xml')[kind]
    with pytest.raises(ValueError, match=f'{where}: has 5 boxes.* max_boxes_per_image=4'):
        checked(kind, tmp_path, boxes, max_boxes_per_image=4)
    with pytest.raises(ValueError, match='has 10001 boxes.*max_boxes_per_image=10000'):
        checked(kind, tmp_path, [[(GOOD, 'cat')] * 10001])
