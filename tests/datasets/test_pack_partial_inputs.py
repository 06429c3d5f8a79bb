import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmgwap.datasets import PackPartialInputs
from mmgwap.structures import PartialDataSample, image_labels, multi_hot


def results(**changes):
    return dict(
        dict(
            img=np.zeros((8, 10, 3), np.uint8),
            img_path='a.jpg',
            img_id=1,
            gt_bboxes=np.array([[1, 1, 4, 4], [2, 2, 5, 5], [0, 0, 3, 3]], np.float32),
            gt_bboxes_labels=np.array([2, 0, 1]),
            gt_ignore_flags=np.array([False, False, True]),
        ),
        **changes,
    )


def pack(**changes):
    packed = PackPartialInputs(meta_keys=('img_id', 'img_path'))(results(**changes))
    assert packed['inputs'].shape == (3, 8, 10)
    return packed['data_samples']


def test_an_image_with_boxes():
    sample = pack()
    assert isinstance(sample, PartialDataSample) and sample.has_boxes
    assert sample.gt_instances.labels.tolist() == [2, 0]
    assert sample.ignored_instances.labels.tolist() == [1]
    assert sample.gt_image_labels.tolist() == [0, 2]
    assert sample.ignored_image_labels.tolist() == [1]
    assert (sample.img_id, sample.img_path) == (1, 'a.jpg')


def test_a_class_that_is_there_for_certain_is_not_unknown():
    sample = pack(gt_bboxes_labels=np.array([2, 1, 1]))
    assert sample.gt_image_labels.tolist() == [1, 2]
    assert sample.ignored_image_labels.tolist() == []


def test_an_image_without_boxes():
    sample = pack(has_boxes=False, image_labels=[3], ignored_image_labels=[0])
    assert not sample.has_boxes
    assert sample.gt_image_labels.tolist() == [3]
    assert sample.gt_image_labels.dtype is torch.int64
    assert sample.ignored_image_labels.tolist() == [0]
    assert 'gt_instances' not in sample and 'ignored_instances' not in sample
    assert 'empty_instances' in sample
    with pytest.raises(AttributeError, match='a.jpg.*MultiTaskDetector'):
        _ = sample.gt_instances


def test_it_survives_what_happens_to_data_samples():
    sample = pack(has_boxes=False, image_labels=[3], ignored_image_labels=[])
    for copy in (sample.to('cpu'), sample.clone(), sample.cpu()):
        assert copy.gt_image_labels.tolist() == [3]
        assert 'gt_instances' not in copy and not copy.has_boxes


def test_boxes_that_were_not_loaded_are_missed():
    loaded = results()
    del loaded['gt_bboxes_labels']
    with pytest.raises(ValueError, match='LoadAnnotations'):
        PackPartialInputs(meta_keys=())(loaded)


def test_multi_hot_of_every_kind():
    sample = pack(has_boxes=False, image_labels=[3], ignored_image_labels=[0])
    for one in (sample, sample.to_dict()):
        assert multi_hot(one, 5).tolist() == [-1, 0, 0, 1, 0]
    plain = pack()
    del plain.gt_image_labels, plain.ignored_image_labels
    for one in (plain, plain.to_dict()):
        assert multi_hot(one, 5).tolist() == [1, -1, 1, 0, 0]


@pytest.mark.parametrize('labels, ignored', [([5], []), ([-1], []), ([], [7])])
def test_labels_outside_of_the_classes(labels, ignored):
    sample = pack(has_boxes=False, image_labels=labels, ignored_image_labels=ignored)
    with pytest.raises(ValueError, match='a.jpg.* outside of the 5 classes'):
        multi_hot(sample, 5)


def test_nothing_to_tell_labels_by():
    with pytest.raises(ValueError, match='a.jpg.*PackPartialInputs'):
        image_labels(PartialDataSample(metainfo=dict(img_path='a.jpg')))
    # Empty boxes of an image without boxes are no labels, nor is None.
    bare = pack(has_boxes=False, image_labels=[], ignored_image_labels=[])
    del bare.gt_image_labels
    bare.gt_instances = bare.empty_instances
    with pytest.raises(ValueError, match='a.jpg'):
        image_labels(bare)
    unloaded = DetDataSample(metainfo=dict(img_path='a.jpg'))
    unloaded.gt_instances = InstanceData()
    with pytest.raises(ValueError, match='a.jpg'):
        image_labels(unloaded)
