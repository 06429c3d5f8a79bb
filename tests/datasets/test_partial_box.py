"""Who keeps boxes, and that nobody without them is taken for empty."""

import json
import pickle
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.dataset import DefaultSampler

from mmgwap.datasets import PartialBoxBatchSampler
from mmgwap.datasets.boxed_images import boxed_images
from mmgwap.structures import PartialDataSample

from .test_checked import CLASSES, GOOD, PIPELINE, write_coco, write_voc

register_all_modules()
BOXES = [
    [(GOOD, 'cat')],
    [(GOOD, 'dog')],
    [(GOOD, 'cat'), (GOOD, 'dog')],
    [(GOOD, 'dog'), (GOOD, 'dog')],
    [],
    [(GOOD, 'cat')],
]
MOSAIC = [*PIPELINE[:2], dict(type='CachedMosaic', img_scale=(32, 32)), PIPELINE[-1]]


def coco(root, boxes=BOXES, write=True, **kwargs):
    if write:
        write_coco(root, boxes)
    return dict(
        type='CocoDataset',
        data_root=str(root),
        ann_file='coco.json',
        data_prefix=dict(img='img/'),
        metainfo=CLASSES,
        pipeline=kwargs.pop('pipeline', PIPELINE),
        **kwargs,
    )


def voc(root, boxes=BOXES, **kwargs):
    write_voc(root, boxes)
    return dict(
        type='XMLDataset',
        data_root=str(root),
        ann_file='voc.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=CLASSES,
        pipeline=PIPELINE,
        **kwargs,
    )


def partial(dataset, **kwargs):
    return DATASETS.build(dict(type='mmgwap.PartialBoxDataset', dataset=dataset, **kwargs))


def split_file(tmp_path, *ids):
    path = tmp_path / 'split.txt'
    path.write_text('\n'.join(map(str, ids)))
    return str(path)


@pytest.mark.parametrize('write, ids', [(coco, (0, 3)), (voc, ('0', '3'))])
def test_label_only_images_keep_their_classes_alone(tmp_path, write, ids):
    dataset = partial(write(tmp_path), split_file=split_file(tmp_path, *ids))
    assert dataset.boxed.tolist() == [True, False, False, True, False, False]
    wanted = [[0], [1], [0, 1], [1], [], [0]]
    for i in range(6):
        sample = dataset[i]['data_samples']
        assert isinstance(sample, PartialDataSample)
        assert sample.has_boxes == bool(dataset.boxed[i])
        assert sample.gt_image_labels.tolist() == wanted[i]
        assert ('gt_instances' in sample) == sample.has_boxes
        assert 'instances' in dataset.get_data_info(i)
    assert len(dataset[3]['data_samples'].gt_instances) == 2
    # Nothing is known of the image that had no boxes to take.
    assert dataset[4]['data_samples'].ignored_image_labels.tolist() == [0, 1]


def test_boxes_are_those_of_the_plain_data_set(tmp_path):
    cfg = coco(tmp_path)
    plain, dataset = DATASETS.build(cfg), partial(cfg, percent=100)
    assert dataset.boxed.all()
    for i in range(6):
        one, two = plain[i], dataset[i]
        assert torch.equal(one['inputs'], two['inputs'])
        assert torch.equal(
            one['data_samples'].gt_instances.bboxes.tensor,
            two['data_samples'].gt_instances.bboxes.tensor,
        )
        assert one['data_samples'].metainfo == {
            key: two['data_samples'].metainfo[key] for key in one['data_samples'].metainfo
        }


@pytest.mark.parametrize('unlabelled, ignored', [('ignore', [0, 1]), ('negative', [])])
def test_images_with_neither(tmp_path, warnings, unlabelled, ignored):
    dataset = partial(coco(tmp_path), percent=0, unlabelled=unlabelled)
    sample = dataset[4]['data_samples']
    assert sample.gt_image_labels.tolist() == []
    assert sample.ignored_image_labels.tolist() == ignored
    (message,) = (text for text in warnings if 'neither' in text)
    assert '1 images' in message and 'such as 4' in message


def test_images_with_neither_may_be_an_error(tmp_path):
    with pytest.raises(ValueError, match='neither boxes nor labels'):
        partial(coco(tmp_path), percent=0, unlabelled='error')
    # One that keeps its boxes is known to be empty.
    partial(coco(tmp_path, write=False), split_file=split_file(tmp_path, 4, 0), unlabelled='error')


def test_classes_of_ignored_boxes_alone_are_unknown(tmp_path):
    write_coco(tmp_path, BOXES)
    content = json.loads((tmp_path / 'coco.json').read_text())
    for annotation in content['annotations']:
        if annotation['image_id'] == 2 and annotation['category_id'] == 5:
            annotation['iscrowd'] = 1
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    for percent in (0, 100):
        dataset = partial(coco(tmp_path, write=False), percent=percent)
        sample = dataset[2]['data_samples']
        assert sample.gt_image_labels.tolist() == [1]
        assert sample.ignored_image_labels.tolist() == [0]


@pytest.mark.parametrize('kind, write', [('Coco', coco), ('XML', voc)])
def test_classes_of_dropped_boxes_alone_are_unknown(tmp_path, kind, write):
    flat = [10, 10, 10, 30]
    boxes = [[(GOOD, 'cat')], [(flat, 'dog'), (GOOD, 'cat')], [(flat, 'dog'), (GOOD, 'dog')]]
    dataset = partial(dict(write(tmp_path, boxes), type=f'mmgwap.Checked{kind}Dataset'), percent=0)
    found = [
        (sample.gt_image_labels.tolist(), sample.ignored_image_labels.tolist())
        for sample in (dataset[i]['data_samples'] for i in range(3))
    ]
    assert found == [([0], []), ([0], [1]), ([1], [])]


@pytest.mark.parametrize('nested', [False, True])
def test_a_crop_may_hold_no_box(tmp_path, nested):
    """mmdet's RandomCrop gives up on an image without boxes."""
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
    # Images with boxes still need one.
    choices = dataset.dataset.pipeline.transforms[2]
    choice = choices.transforms.transforms[0] if nested else choices
    assert choice.allow_negative_crop is False


def test_percent(tmp_path):
    boxes = [[(GOOD, 'cat' if i % 3 else 'dog')] for i in range(60)]
    cfg = coco(tmp_path, boxes)
    one, two, other = (partial(cfg, percent=20, seed=seed) for seed in (0, 0, 1))
    assert one.boxed.sum() == 12
    assert (one.boxed == two.boxed).all() and (one.boxed != other.boxed).any()
    kept = [one[i]['data_samples'].gt_image_labels.item() for i in np.flatnonzero(one.boxed)]
    assert sorted(kept) == [0] * 8 + [1] * 4
    with pytest.raises(ValueError, match='2 classes'):
        partial(cfg, percent=1)


def test_no_boxes_at_all(tmp_path, warnings):
    cfg = coco(tmp_path)
    with pytest.raises(ValueError, match='no image keeps its boxes'):
        partial(cfg, boxes_only=True, percent=0)
    assert not [text for text in warnings if 'no image' in text]
    partial(cfg, percent=0)
    assert [text for text in warnings if 'no image keeps its boxes' in text]


def test_boxes_only_leaves_out_what_has_no_labels(tmp_path, warnings):
    dataset = partial(
        coco(tmp_path), boxes_only=True, unlabelled='error', split_file=split_file(tmp_path, 0, 1)
    )
    assert len(dataset) == 2
    assert not [text for text in warnings if 'neither' in text]


def test_boxes_only(tmp_path):
    dataset = partial(coco(tmp_path), boxes_only=True, split_file=split_file(tmp_path, 3, 5))
    assert len(dataset) == 2 and dataset.boxed.all()
    assert [dataset[i]['data_samples'].img_id for i in range(2)] == [3, 5]
    assert dataset.get_cat_ids(0) == [1, 1]


@pytest.mark.parametrize('values, boxed', [([True, False, 1, 0, 'yes', 'no'], [1, 0, 1, 0, 1, 0])])
def test_flags(tmp_path, values, boxed):
    write_coco(tmp_path, BOXES)
    content = json.loads((tmp_path / 'coco.json').read_text())
    for image, value in zip(content['images'], values):
        image['boxed'] = value
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    dataset = partial(coco(tmp_path, write=False), flag='boxed')
    assert dataset.boxed.tolist() == boxed
    with pytest.raises(ValueError, match='coco.json, image 0: other must be'):
        partial(coco(tmp_path, write=False), flag='other')

    cfg = voc(tmp_path)
    for i, value in enumerate(values):
        path = tmp_path / 'Annotations' / f'{i}.xml'
        tree = ElementTree.parse(path)
        ElementTree.SubElement(tree.getroot(), 'boxed').text = str(value)
        tree.write(path)
    assert partial(cfg, flag='boxed').boxed.tolist() == boxed


def test_unknown_ids(tmp_path):
    with pytest.raises(ValueError, match='split.txt: 1 of its 2 .* 77'):
        partial(coco(tmp_path), split_file=split_file(tmp_path, 3, 77))


@pytest.mark.parametrize(
    'kwargs', [dict(), dict(percent=10, flag='a'), dict(percent=10, split_file='a')]
)
def test_exactly_one_choice(tmp_path, kwargs):
    with pytest.raises(ValueError, match='exactly one of'):
        partial(coco(tmp_path), **kwargs)


def test_concatenated(tmp_path):
    (tmp_path / 'a').mkdir(), (tmp_path / 'b').mkdir()
    parts = [coco(tmp_path / 'a'), coco(tmp_path / 'b', BOXES[:2])]
    inside = partial(dict(type='ConcatDataset', datasets=parts), percent=50)
    assert len(inside) == 8 and inside.boxed.sum() == 4
    for i in range(8):
        assert dataset_path(inside, i).startswith(str(tmp_path / ('a' if i < 6 else 'b')))
    around = DATASETS.build(
        dict(
            type='ConcatDataset',
            datasets=[parts[0], dict(type='mmgwap.PartialBoxDataset', percent=0, dataset=parts[1])],
        )
    )
    assert boxed_images(around).tolist() == [True] * 6 + [False] * 2
    sampler = PartialBoxBatchSampler(DefaultSampler(around, seed=0), batch_size=3, boxed=2)
    for batch in sampler:
        flags = [getattr(around[i]['data_samples'], 'has_boxes', True) for i in batch]
        assert flags == [True, True, False]


def dataset_path(dataset, i):
    return dataset[i]['data_samples'].img_path


def test_images_that_never_had_boxes_go_beside_it(tmp_path):
    parts = [
        coco(tmp_path),
        dict(
            type='mmgwap.ImageLabelDataset',
            format='coco',
            metainfo=CLASSES,
            data_root=str(tmp_path),
            data_prefix=dict(img='img/'),
            ann_file='coco.json',
            pipeline=PIPELINE,
        ),
    ]
    with pytest.raises(TypeError, match='cannot wrap a ImageLabelDataset'):
        partial(
            dict(type='ConcatDataset', datasets=parts, ignore_keys=['palette', 'dataset_type']),
            percent=50,
        )


def test_parts_that_differ(tmp_path):
    parts = [
        coco(tmp_path),
        dict(coco(tmp_path), metainfo=dict(CLASSES, palette=[(1, 2, 3), (4, 5, 6)])),
    ]
    with pytest.raises(ValueError, match='ignore_keys'):
        partial(dict(type='ConcatDataset', datasets=parts), percent=50)


def test_the_same_id_in_two_parts(tmp_path):
    cfg = coco(tmp_path)
    with pytest.raises(ValueError, match='same id'):
        partial(dict(type='ConcatDataset', datasets=[cfg, cfg]), split_file=split_file(tmp_path, 0))


@pytest.mark.parametrize(
    'wrapper, boxed',
    [
        (dict(type='RepeatDataset', times=2), [1, 0, 0, 0, 0, 1] * 2),
        (dict(type='ClassBalancedDataset', oversample_thr=1e-3), [1, 0, 0, 0, 0, 1]),
    ],
)
def test_wrappers_go_around_it(tmp_path, wrapper, boxed):
    inner = dict(
        type='mmgwap.PartialBoxDataset',
        dataset=coco(tmp_path),
        split_file=split_file(tmp_path, 0, 5),
    )
    dataset = DATASETS.build(dict(wrapper, dataset=inner))
    assert boxed_images(dataset).tolist() == boxed
    assert [dataset[i]['data_samples'].has_boxes for i in range(len(boxed))] == boxed
    with pytest.raises(TypeError, match='cannot wrap'):
        partial(dict(wrapper, dataset=coco(tmp_path)), percent=50)


def test_mixing_augmentations_are_refused(tmp_path):
    cfg = coco(tmp_path, pipeline=MOSAIC)
    with pytest.raises(ValueError, match='CachedMosaic.*label_pipeline'):
        partial(cfg, percent=50)
    nested = [
        *PIPELINE[:2],
        dict(type='RandomChoice', transforms=[[MOSAIC[2]], [dict(type='Resize', scale=(32, 32))]]),
        PIPELINE[-1],
    ]
    with pytest.raises(ValueError, match='CachedMosaic'):
        partial(coco(tmp_path, pipeline=nested), percent=50)
    with pytest.raises(ValueError, match='CachedMosaic in label_pipeline'):
        partial(cfg, percent=50, label_pipeline=MOSAIC)
    assert partial(cfg, percent=100).boxed.all()
    with pytest.raises(TypeError, match='MultiImageMixDataset'):
        partial(dict(type='MultiImageMixDataset', pipeline=MOSAIC[2:], dataset=cfg), percent=50)


def test_with_a_label_pipeline_boxed_images_mix_among_themselves(tmp_path):
    rows = [[([1 + i, 5, 41 + i, 35], 'cat')] for i in range(8)]
    dataset = partial(coco(tmp_path, rows, pipeline=MOSAIC), percent=50, label_pipeline=PIPELINE)
    cached = dataset.dataset.pipeline.transforms[2].results_cache
    for _ in range(2):  # mmdet's Mosaic begins when it knows five images
        for i in range(8):
            dataset[i]
    for i in range(8):
        sample = dataset[i]['data_samples']
        assert sample.has_boxes == dataset.boxed[i]
        assert sample.img_shape == ((64, 64) if dataset.boxed[i] else (48, 64))
    assert len(cached) == 12
    boxed = {int(i) for i in np.flatnonzero(dataset.boxed)}
    assert {one['img_id'] for one in cached} == boxed


def test_a_pipeline_that_loses_what_has_no_boxes_is_refused(tmp_path):
    with pytest.raises(ValueError, match='must end in mmgwap.PackPartialInp'):
        partial(coco(tmp_path, pipeline=PIPELINE[:2]), percent=50)


def test_hooks_may_switch_the_pipeline(tmp_path):
    dataset = partial(coco(tmp_path), percent=50)
    dataset.pipeline = Compose([*PIPELINE[:2], dict(type='Resize', scale=(32, 32)), PIPELINE[-1]])
    assert {dataset[i]['inputs'].shape[1:] for i in range(6)} == {(32, 32)}
    assert isinstance(dataset[0]['data_samples'], PartialDataSample)
    with pytest.raises(ValueError, match='CachedMosaic'):
        dataset.pipeline = Compose(MOSAIC)


def test_another_image_of_the_same_kind_when_the_pipeline_gives_none(tmp_path):
    class Refuse:
        transforms = []

        def __call__(self, info):
            return None if info['img_id'] in (0, 1) else info

    dataset = partial(coco(tmp_path), split_file=split_file(tmp_path, 0, 3, 5))
    leaf = dataset.dataset
    leaf.pipeline = leaf.label_pipeline = Refuse()
    for _ in range(20):
        assert dataset[0]['img_id'] in (3, 5)
        assert dataset[1]['img_id'] in (2, 4)
    leaf.pipeline = Compose([lambda info: None])
    with pytest.raises(RuntimeError, match='no sample .* times.*img'):
        dataset[0]


def test_an_unreadable_image_is_named(tmp_path):
    dataset = partial(coco(tmp_path), percent=0)
    (tmp_path / 'img' / '1.jpg').write_bytes(b'nothing')
    with pytest.raises(RuntimeError, match='cannot prepare .*1.jpg'):
        dataset[1]


def test_workers_can_have_it(tmp_path):
    dataset = pickle.loads(pickle.dumps(partial(coco(tmp_path), percent=50)))
    assert len(dataset) == 6 and dataset.boxed.sum() == 3
    assert dataset[0]['data_samples'].has_boxes in (True, False)


def test_classes_that_lose_all_boxes_are_named(tmp_path, warnings):
    partial(coco(tmp_path), split_file=split_file(tmp_path, 0, 5))
    assert any('no image keeps boxes of dog' in text for text in warnings)
