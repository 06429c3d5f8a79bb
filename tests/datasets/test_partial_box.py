"""PartialBoxDataset: which images keep boxes, and the labels of the others."""

import json
import pickle

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.registry import DATASETS
from mmengine.dataset import DefaultSampler

from mmgwap.datasets import PartialBoxBatchSampler
from mmgwap.datasets.samplers import boxed_images
from mmgwap.structures import PartialDataSample

from .helpers import (
    BOXES,
    CLASSES,
    GOOD,
    MOSAIC,
    PIPELINE,
    coco,
    partial,
    split_file,
    voc,
    write_coco,
)


def labels_of(dataset, idx):
    sample = dataset[idx]['data_samples']
    return sample.gt_image_labels.tolist(), sample.ignored_image_labels.tolist()


def edit_json(root, edit):
    """Write the COCO file with changes."""
    write_coco(root, BOXES)
    content = json.loads((root / 'coco.json').read_text())
    edit(content)
    (root / 'coco.json').write_text(json.dumps(content))
    return coco(root, write=False)


@pytest.mark.parametrize('write', [coco, voc])
def test_images_without_boxes_keep_their_labels(tmp_path, write):
    dataset = partial(write(tmp_path), split_file=split_file(tmp_path, 0, 3))
    assert dataset.boxed.tolist() == [True, False, False, True, False, False]
    for i, labels in enumerate([[0], [1], [0, 1], [1], [], [0]]):
        sample = dataset[i]['data_samples']
        assert isinstance(sample, PartialDataSample)
        assert sample.has_boxes == bool(dataset.boxed[i])
        assert sample.gt_image_labels.tolist() == labels
        assert ('gt_instances' in sample) == sample.has_boxes
        assert 'instances' in dataset.get_data_info(i)
    assert len(dataset[3]['data_samples'].gt_instances) == 2


def test_keep_the_boxes_of_the_wrapped_data_set(tmp_path):
    cfg = coco(tmp_path)
    plain, dataset = DATASETS.build(cfg), partial(cfg, percent=100)
    assert dataset.boxed.all()
    for i in range(6):
        expected, packed = plain[i], dataset[i]
        sample = packed['data_samples']
        assert torch.equal(expected['inputs'], packed['inputs'])
        expected = expected['data_samples']
        assert torch.equal(expected.gt_instances.bboxes.tensor, sample.gt_instances.bboxes.tensor)
        assert expected.metainfo.items() <= sample.metainfo.items()


@pytest.mark.parametrize('unlabelled, ignored', [('ignore', [0, 1]), ('negative', [])])
def test_images_without_labels(tmp_path, warnings, unlabelled, ignored):
    dataset = partial(coco(tmp_path), percent=0, unlabelled=unlabelled)
    assert labels_of(dataset, 4) == ([], ignored)
    assert len([text for text in warnings if 'neither' in text and 'such as 4' in text]) == 1


def test_refuse_images_without_labels(tmp_path, warnings):
    cfg = coco(tmp_path)
    with pytest.raises(ValueError, match='1 images have neither'):
        partial(cfg, percent=0, unlabelled='error')
    # An image that keeps its boxes is known to be empty, and other images may be left out.
    partial(cfg, split_file=split_file(tmp_path, 4, 0), unlabelled='error')
    split = split_file(tmp_path, 0, 1)
    assert len(partial(cfg, boxes_only=True, unlabelled='error', split_file=split)) == 2
    assert not [text for text in warnings if 'neither' in text]


@pytest.mark.parametrize('percent', [0, 100])
def test_classes_with_only_crowds_are_unknown(tmp_path, percent):
    def edit(content):
        for ann in content['annotations']:
            ann['iscrowd'] = int(ann['image_id'] == 2 and ann['category_id'] == 5)

    assert labels_of(partial(edit_json(tmp_path, edit), percent=percent), 2) == ([1], [0])


@pytest.mark.parametrize('percent', [0, 100])
@pytest.mark.parametrize('kind, write', [('Coco', coco), ('XML', voc)])
def test_classes_with_only_dropped_boxes_are_unknown(tmp_path, kind, write, percent):
    flat = [10, 10, 10, 30]
    boxes = [[(GOOD, 'cat')], [(flat, 'dog'), (GOOD, 'cat')], [(flat, 'dog'), (GOOD, 'dog')]]
    cfg = dict(write(tmp_path, boxes), type=f'mmgwap.Checked{kind}Dataset')
    dataset = partial(cfg, percent=percent)
    assert [labels_of(dataset, i) for i in range(3)] == [([0], []), ([0], [1]), ([1], [])]


@pytest.mark.parametrize('nested', [False, True])
def test_random_crop_without_boxes(tmp_path, nested):
    """mmdet's RandomCrop returns None for an image without boxes."""
    crop = dict(type='RandomCrop', crop_size=(16, 16))
    if nested:
        crop = dict(type='RandomApply', transforms=[crop], prob=1.0)
    pipeline = [*PIPELINE[:2], crop, PIPELINE[-1]]
    boxes = [[([0, 0, 64, 48], 'cat')]] * 4
    dataset = partial(coco(tmp_path, boxes, pipeline=pipeline), percent=50)
    for i in range(4):
        sample = dataset[i]['data_samples']
        assert sample.img_id == i and sample.img_shape == (16, 16)
        assert sample.gt_image_labels.tolist() == [0]
    transform = dataset.dataset.pipeline.transforms[2]
    transform = transform.transforms.transforms[0] if nested else transform
    assert transform.allow_negative_crop is False  # images with boxes still need one


def test_percent(tmp_path):
    cfg = coco(tmp_path, [[(GOOD, 'cat' if i % 3 else 'dog')] for i in range(60)])
    first, same, other = (partial(cfg, percent=20, seed=seed) for seed in (0, 0, 1))
    assert first.boxed.sum() == 12
    assert (first.boxed == same.boxed).all() and (first.boxed != other.boxed).any()
    kept = [labels_of(first, i)[0] for i in np.flatnonzero(first.boxed)]
    assert sorted(kept) == [[0]] * 8 + [[1]] * 4


def test_splits_without_boxes(tmp_path, warnings):
    cfg = coco(tmp_path)
    with pytest.raises(ValueError, match='no image keeps its boxes'):
        partial(cfg, boxes_only=True, percent=0)
    partial(cfg, percent=0)
    assert len([text for text in warnings if 'no image keeps its boxes' in text]) == 1
    partial(cfg, split_file=split_file(tmp_path, 0, 5))
    assert any('no image keeps boxes of dog' in text for text in warnings)


def test_boxes_only(tmp_path, warnings):
    dataset = partial(coco(tmp_path), boxes_only=True, split_file=split_file(tmp_path, 3, 5))
    assert len(dataset) == 2 and dataset.boxed.all()
    assert [dataset[i]['data_samples'].img_id for i in range(2)] == [3, 5]
    assert dataset.get_cat_ids(0) == [1, 1]


def test_flag(tmp_path):
    values, boxed = [True, False, 1, 0, 'yes', 'no'], [1, 0, 1, 0, 1, 0]

    def edit(content):
        for image, value in zip(content['images'], values):
            image['boxed'] = value

    cfg = edit_json(tmp_path, edit)
    assert partial(cfg, flag='boxed').boxed.tolist() == boxed
    for flag in ('other', ''):
        with pytest.raises(ValueError, match=f'coco.json, image 0: {flag} '):
            partial(cfg, flag=flag)

    cfg = voc(tmp_path)
    for i, value in enumerate(values):
        path = tmp_path / 'Annotations' / f'{i}.xml'
        path.write_text(path.read_text().replace('</size>', f'</size><boxed>{value}</boxed>'))
    assert partial(cfg, flag='boxed').boxed.tolist() == boxed
    for flag, message in (('', '0.xml'), ('other', '0.xml'), ('[', 'flag=')):
        with pytest.raises(ValueError, match=message):
            partial(cfg, flag=flag)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(), 'exactly one of'),
        (dict(percent=10, flag='a'), 'exactly one of'),
        (dict(percent=101), 'percent .* got 101'),
        (dict(percent=True), 'percent .* got True'),
        (dict(percent=50, seed=None), 'seed .* got None'),
        (dict(percent=1, unlabelled='no'), "unlabelled .* got 'no'"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        partial(coco(tmp_path), **options)


@pytest.mark.parametrize(
    'use',
    [
        lambda dataset: len(dataset) == 6,
        lambda dataset: dataset[1]['data_samples'].has_boxes is False,
        lambda dataset: dataset.get_data_info(0)['has_boxes'],
        lambda dataset: boxed_images(dataset).sum() == 2,
        lambda dataset: len(dataset.pipeline.transforms) == 3,
    ],
)
def test_lazy_init(tmp_path, use):
    cfg = dict(coco(tmp_path), lazy_init=True)
    dataset = partial(cfg, split_file=split_file(tmp_path, 0, 5), lazy_init=True)
    assert dataset.metainfo['classes'] == CLASSES['classes']
    assert use(dataset)


def test_concatenated_data_sets(tmp_path):
    (tmp_path / 'a').mkdir(), (tmp_path / 'b').mkdir()
    parts = [coco(tmp_path / 'a'), coco(tmp_path / 'b', BOXES[:2])]
    inside = partial(dict(type='ConcatDataset', datasets=parts), percent=50)
    assert len(inside) == 8 and inside.boxed.sum() == 4
    for i in range(8):
        path = inside[i]['data_samples'].img_path
        assert path.startswith(str(tmp_path / ('a' if i < 6 else 'b')))
    part = dict(type='mmgwap.PartialBoxDataset', percent=0, dataset=parts[1])
    around = DATASETS.build(dict(type='ConcatDataset', datasets=[parts[0], part]))
    assert boxed_images(around).tolist() == [True] * 6 + [False] * 2
    sampler = PartialBoxBatchSampler(DefaultSampler(around, seed=0), batch_size=3, num_boxed=2)
    for batch in sampler:
        kinds = [getattr(around[i]['data_samples'], 'has_boxes', True) for i in batch]
        assert kinds == [True, True, False]


def test_image_label_dataset_cannot_be_wrapped(tmp_path):
    cfg = coco(tmp_path)
    labels = dict(cfg, type='mmgwap.ImageLabelDataset', format='coco')
    ignored = ['palette', 'dataset_type']
    concatenated = dict(type='ConcatDataset', datasets=[cfg, labels], ignore_keys=ignored)
    with pytest.raises(TypeError, match='cannot wrap ImageLabelDataset'):
        partial(concatenated, percent=50)


@pytest.mark.parametrize(
    'wrapper, boxed',
    [
        (dict(type='RepeatDataset', times=2), [1, 0, 0, 0, 0, 1] * 2),
        (dict(type='ClassBalancedDataset', oversample_thr=1e-3), [1, 0, 0, 0, 0, 1]),
    ],
)
def test_wrappers_around_and_inside(tmp_path, wrapper, boxed):
    cfg, split = coco(tmp_path), split_file(tmp_path, 0, 5)
    inner = dict(type='mmgwap.PartialBoxDataset', dataset=cfg, split_file=split)
    dataset = DATASETS.build(dict(wrapper, dataset=inner))
    assert boxed_images(dataset).tolist() == boxed
    assert [dataset[i]['data_samples'].has_boxes for i in range(len(boxed))] == boxed
    with pytest.raises(TypeError, match=f'cannot wrap {wrapper["type"]}'):
        partial(dict(wrapper, dataset=cfg), percent=50)


def test_refuse_transforms_that_mix_images(tmp_path):
    cfg = coco(tmp_path, pipeline=MOSAIC)
    resize = dict(type='Resize', scale=(32, 32))
    choice = dict(type='RandomChoice', transforms=[[MOSAIC[2]], [resize]])
    nested = dict(cfg, pipeline=[*PIPELINE[:2], choice, PIPELINE[-1]])
    for dataset, options in ((cfg, {}), (nested, {}), (cfg, dict(label_pipeline=MOSAIC))):
        with pytest.raises(ValueError, match='CachedMosaic.*label_pipeline'):
            partial(dataset, percent=50, **options)
    assert partial(cfg, percent=100).boxed.all()
    with pytest.raises(TypeError, match='MultiImageMixDataset'):
        partial(dict(type='MultiImageMixDataset', pipeline=MOSAIC[2:], dataset=cfg), percent=50)


def test_label_pipeline(tmp_path):
    """Mix images with boxes only with each other."""
    boxes = [[([1 + i, 5, 41 + i, 35], 'cat')] for i in range(8)]
    dataset = partial(coco(tmp_path, boxes, pipeline=MOSAIC), percent=50, label_pipeline=PIPELINE)
    cached = dataset.dataset.pipeline.transforms[2].results_cache
    for _ in range(2):  # mmdet's Mosaic starts with five images
        for i in range(8):
            dataset[i]
    for i in range(8):
        sample = dataset[i]['data_samples']
        assert sample.has_boxes == dataset.boxed[i]
        assert sample.img_shape == ((64, 64) if dataset.boxed[i] else (48, 64))
    assert len(cached) == 12
    assert {results['img_id'] for results in cached} == set(np.flatnonzero(dataset.boxed).tolist())


@pytest.mark.parametrize('options', [{}, dict(label_pipeline=[])])
def test_pipelines_must_pack_the_image(tmp_path, options):
    pipeline = PIPELINE if options else PIPELINE[:2]
    with pytest.raises(ValueError, match='must end in .*mmgwap.PackPartialInputs'):
        partial(coco(tmp_path, pipeline=pipeline), percent=50, **options)


def test_replace_the_pipeline(tmp_path):
    dataset = partial(coco(tmp_path), percent=50)
    dataset.pipeline = Compose([*PIPELINE[:2], dict(type='Resize', scale=(32, 32)), PIPELINE[-1]])
    assert {dataset[i]['inputs'].shape[1:] for i in range(6)} == {(32, 32)}
    assert isinstance(dataset[0]['data_samples'], PartialDataSample)
    with pytest.raises(ValueError, match='CachedMosaic'):
        dataset.pipeline = Compose(MOSAIC)


def test_replace_failed_samples_by_the_same_kind(tmp_path):
    class Refuse:
        transforms = []

        def __call__(self, info):
            return None if info['img_id'] in (0, 1) else info

    dataset = partial(coco(tmp_path), split_file=split_file(tmp_path, 0, 3, 5))
    base = dataset.dataset
    base.pipeline = base.label_pipeline = Refuse()
    for _ in range(20):
        assert dataset[0]['img_id'] in (3, 5)
        assert dataset[1]['img_id'] in (2, 4)
    base.pipeline = Compose([lambda info: None])
    with pytest.raises(RuntimeError, match='no sample .* tries.*img'):
        dataset[0]


def test_pickle(tmp_path):
    dataset = pickle.loads(pickle.dumps(partial(coco(tmp_path), percent=50)))
    assert len(dataset) == 6 and dataset.boxed.sum() == 3
    assert dataset[0]['data_samples'].has_boxes in (True, False)
