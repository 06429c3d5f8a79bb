"""Bad image files: an error that names them, or skipped and counted."""

import os
import re

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.runner.runner import _SlicedDataset
from PIL import Image
from torch.utils.data import DataLoader

from mmgwap.datasets import PartialBoxBatchSampler, unreadable_images
from mmgwap.datasets.unreadable_images import skipping_datasets, why_unreadable

from . import test_image_label, test_wsol
from .bad_files import BAD_FILES, encoded
from .test_checked import GOOD, PIPELINE, load, write_images
from .test_partial_box import coco, partial, split_file

BOXES = [[(GOOD, 'cat')], [(GOOD, 'dog')]] * 4
SKIP = dict(on_bad_image='skip')
TEST = [PIPELINE[0], dict(type='Resize', scale=(32, 32), keep_ratio=True), *PIPELINE[1:]]
VIEWS = [
    PIPELINE[0],
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(s, s), keep_ratio=True) for s in (32, 64)],
            [PIPELINE[1]],
            [PIPELINE[2]],
        ],
    ),
]


def coco_set(root, **options):
    return load('coco', root, BOXES, **options)


def xml_set(root, **options):
    return load('voc', root, BOXES, **options)


def label_set(root, **options):
    write_images(root, 8)
    test_image_label.folders(root, [['cat'], ['dog']] * 4)
    return test_image_label.build('folders', root, **options)


def wsol_set(root, **options):
    names = [f'{i}.jpg' for i in range(8)]
    write_images(root / 'img', 8)
    (root / 'meta').mkdir()
    for name, lines in (
        ('image_ids', names),
        ('class_labels', [f'{name},{i % 2}' for i, name in enumerate(names)]),
    ):
        (root / 'meta' / f'{name}.txt').write_text('\n'.join(lines))
    return test_wsol.build(root, **options)


def partial_set(root, **options):
    cfg = coco(root, BOXES, **options)
    return partial(dict(cfg, type='mmgwap.CheckedCocoDataset'), percent=50)


SETS = dict(coco=coco_set, voc=xml_set, labels=label_set, wsol=wsol_set, partial=partial_set)


def path_of(dataset, idx):
    return dataset.get_data_info(idx)['img_path']


def spoil(dataset, *places, content=b''):
    for idx in places:
        with open(path_of(dataset, idx), 'wb') as file:
            file.write(content)


def taken(dataset, idx):
    return dataset[idx]['data_samples'].img_path


@pytest.mark.parametrize('kind', BAD_FILES)
def test_what_is_bad(kind, tmp_path):
    path = tmp_path / 'a.jpg'
    path.write_bytes(BAD_FILES[kind])
    why = why_unreadable(str(path))
    assert why and '\n' not in why
    expected = dict(empty='empty', truncated_jpeg='truncated', bomb='DecompressionBombError').get(
        kind, ''
    )
    assert expected in why


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'GIF', 'BMP', 'TIFF'])
def test_whole_images_are_not(kind, tmp_path):
    path = tmp_path / 'a.jpg'  # which it need not be
    path.write_bytes(encoded(kind))
    assert why_unreadable(str(path)) is None


def test_what_is_not_there_says_nothing(tmp_path):
    (tmp_path / 'folder.jpg').mkdir()
    for name in ('missing.jpg', 'folder.jpg'):
        assert why_unreadable(str(tmp_path / name)) is None
    assert why_unreadable(None) is None


@pytest.mark.parametrize('kind', SETS)
def test_by_default_they_are_an_error_with_the_path(kind, tmp_path):
    dataset = SETS[kind](tmp_path)
    spoil(dataset, 3, content=BAD_FILES['truncated_jpeg'])
    told = f"cannot prepare {re.escape(path_of(dataset, 3))}: .*truncated.*on_bad_image='skip'"
    with pytest.raises(RuntimeError, match=told):
        dataset[3]
    assert not skipping_datasets(dataset)


@pytest.mark.parametrize(
    'kind, content', [*((kind, 'text') for kind in SETS), *(('coco', one) for one in BAD_FILES)]
)
def test_another_is_taken_and_they_are_counted_once(kind, content, tmp_path, warnings):
    dataset = SETS[kind](tmp_path, **SKIP)
    (part,) = skipping_datasets(dataset)
    assert part.bad_images == []
    warnings.clear()
    spoil(dataset, 2, 5, content=BAD_FILES[content])
    bad = [path_of(dataset, idx) for idx in (2, 5)]
    for _ in range(3):
        assert not {taken(dataset, idx) for idx in range(8)} & set(bad)
    assert part.bad_images == bad
    assert len(warnings) == 2
    for path in bad:
        (line,) = (line for line in warnings if line.startswith(path))
        assert 'cannot be read and is skipped: ' in line and '\n' not in line


def test_one_whole_image_is_enough(tmp_path):
    dataset = coco_set(tmp_path, **SKIP, max_refetch=200)
    spoil(dataset, *range(7))
    assert {taken(dataset, idx) for idx in range(8)} == {path_of(dataset, 7)}
    spoil(dataset, 7)
    with pytest.raises(
        RuntimeError,
        match='no sample in 201 tries, the last for .*jpg; 8 of 8 images could not be read',
    ):
        dataset[0]


def test_tries_are_limited(tmp_path):
    dataset = partial_set(tmp_path, **SKIP, max_refetch=0)
    spoil(dataset, 1)
    with pytest.raises(
        RuntimeError,
        match='no sample in 1 tries, the last for .*1.jpg; 1 of 8 images could not be read',
    ):
        dataset[1]


@pytest.mark.parametrize('kind', SETS)
def test_a_missing_file_is_an_error_always(kind, tmp_path):
    dataset = SETS[kind](tmp_path, **SKIP)
    os.remove(path_of(dataset, 0))
    os.remove(path_of(dataset, 1))
    os.mkdir(path_of(dataset, 1))
    for idx in (0, 1):
        with pytest.raises(
            RuntimeError, match=f'cannot prepare {re.escape(path_of(dataset, idx))}: '
        ):
            dataset[idx]
    (part,) = skipping_datasets(dataset)
    assert part.bad_images == []


def test_what_else_fails_is_an_error_always(tmp_path):
    broken = [*PIPELINE[:2], dict(type='LoadProposals'), PIPELINE[2]]
    dataset = coco_set(tmp_path, **SKIP, pipeline=broken)
    with pytest.raises(RuntimeError, match='cannot prepare .*0.jpg: .*proposals'):
        dataset[0]


@pytest.mark.parametrize('kind', SETS)
def test_other_options_are_refused(kind, tmp_path):
    with pytest.raises(
        ValueError, match="on_bad_image must be one of .*'error', 'skip'.* got True"
    ):
        SETS[kind](tmp_path, on_bad_image=True)


def test_a_known_one_is_not_read_again(tmp_path, monkeypatch):
    dataset = coco_set(tmp_path, **SKIP)
    spoil(dataset, 4)
    dataset[4]
    monkeypatch.setattr(unreadable_images, 'get', None)
    for _ in range(20):
        assert taken(dataset, 4) != path_of(dataset, 4)


@pytest.mark.parametrize('kind', ['coco', 'partial'])
def test_whether_it_is_known_does_not_change_what_is_drawn(kind, tmp_path):
    dataset = SETS[kind](tmp_path, **SKIP)
    spoil(dataset, 0, 1, 6)
    drawn = []
    for _ in range(2):
        np.random.seed(3)
        drawn.append([taken(dataset, idx % 8) for idx in range(40)])
    assert drawn[0] == drawn[1]


def test_the_kind_of_a_partial_sample_stays(tmp_path):
    cfg = dict(coco(tmp_path, BOXES), type='mmgwap.CheckedCocoDataset', **SKIP)
    dataset = partial(cfg, split_file=split_file(tmp_path, 0, 1, 4))
    spoil(dataset, 0, 3, 7)
    sampler = PartialBoxBatchSampler(DefaultSampler(dataset, seed=0), batch_size=3, num_boxed=1)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=pseudo_collate)
    seen = set()
    for epoch in range(8):
        sampler.sampler.set_epoch(epoch)
        for batch in loader:
            assert [one.has_boxes for one in batch['data_samples']] == [True, False, False]
            seen |= {one.img_id for one in batch['data_samples']}
    assert seen == {1, 2, 4, 5, 6}
    assert dataset.dataset.bad_images == [path_of(dataset, idx) for idx in (0, 3, 7)]


def test_boxes_only_takes_the_place_of_the_image_into_account(tmp_path):
    cfg = dict(coco(tmp_path, BOXES), type='mmgwap.CheckedCocoDataset', **SKIP)
    dataset = partial(cfg, split_file=split_file(tmp_path, 2, 5, 6), boxes_only=True)
    spoil(dataset, 1)
    assert taken(dataset, 1) in (path_of(dataset, 0), path_of(dataset, 2))
    assert dataset.dataset.bad_images == [path_of(dataset, 1)]
    assert dataset.dataset.bad_images[0].endswith('5.jpg')


def test_other_data_sets_in_a_partial_one_have_errors(tmp_path):
    dataset = partial(coco(tmp_path, BOXES), percent=50)
    spoil(dataset, 3)
    with pytest.raises(RuntimeError, match='cannot prepare .*3.jpg: ') as info:
        dataset[3]
    assert 'on_bad_image' not in str(info.value)


@pytest.mark.parametrize('start, workers', [('fork', 2), ('spawn', 1)])
def test_workers_count_together(start, workers, tmp_path):
    dataset = label_set(tmp_path, **SKIP)
    loader = DataLoader(
        dataset,
        batch_size=2,
        num_workers=workers,
        persistent_workers=True,
        collate_fn=pseudo_collate,
        multiprocessing_context=start,
    )
    spoil(dataset, 1, content=BAD_FILES['text'])
    list(loader)
    assert dataset.bad_images == [path_of(dataset, 1)]
    spoil(dataset, 6)  # workers that live on tell of what they meet later
    list(loader)
    assert dataset.bad_images == [path_of(dataset, idx) for idx in (1, 6)]


def test_wrappers_are_looked_through(tmp_path):
    parts = {}
    for name, rule in zip('abc', ('skip', 'error', 'skip')):
        (tmp_path / name).mkdir()
        parts[name] = dict(
            coco(tmp_path / name, BOXES), type='mmgwap.CheckedCocoDataset', on_bad_image=rule
        )
    inside = dict(
        type='mmgwap.PartialBoxDataset',
        percent=50,
        dataset=dict(type='ConcatDataset', datasets=[parts['b'], parts['c']]),
    )
    mixed = DATASETS.build(
        dict(
            type='ConcatDataset',
            ignore_keys=['cumulative_sizes'],
            datasets=[parts['a'], dict(type='RepeatDataset', times=2, dataset=inside)],
        )
    )
    # What num_batch_per_epoch makes of a data set.
    for dataset in (mixed, _SlicedDataset(mixed, 3)):
        assert [part.ann_file for part in skipping_datasets(dataset)] == [
            str(tmp_path / name / 'coco.json') for name in 'ac'
        ]
    leaf = skipping_datasets(mixed)[0]
    assert skipping_datasets(_SlicedDataset(leaf, 3)) == [leaf]
    assert skipping_datasets(DATASETS.build(parts['b'])) == []
    assert skipping_datasets(DATASETS.build(coco(tmp_path / 'b'))) == []


def measured(root, kind='coco', **options):
    dataset = SETS[kind](root, **dict(dict(pipeline=TEST), **options), test_mode=True, **SKIP)
    spoil(dataset, 3, content=BAD_FILES['truncated_jpeg'])
    return dataset


@pytest.mark.parametrize('kind', ['coco', 'labels', 'wsol', 'partial'])
def test_a_test_needs_the_hook(kind, tmp_path):
    dataset = measured(tmp_path, kind)
    told = f'{re.escape(path_of(dataset, 3))}: .*truncated.*mmgwap.BadImagesHook'
    for _ in range(2):
        with pytest.raises(RuntimeError, match=told):
            dataset[3]
    assert not dataset[2]['data_samples'].get('unreadable')


def test_a_test_sees_a_blank_image_of_the_same_size(tmp_path, warnings):
    dataset = measured(tmp_path)
    whole = dataset[2]
    dataset.drops_predictions = True
    for _ in range(2):
        blank = dataset[3]
        assert not blank['inputs'].any()
        assert blank['inputs'].shape == whole['inputs'].shape
        assert blank['inputs'].dtype == whole['inputs'].dtype
        sample = blank['data_samples']
        assert sample.unreadable and sample.img_path == path_of(dataset, 3)
        assert sample.ori_shape == whole['data_samples'].ori_shape == (48, 64)
        assert sample.scale_factor == whole['data_samples'].scale_factor
        assert sample.gt_instances.labels.tolist() == [1]
    assert dataset.bad_images == [path_of(dataset, 3)] and len(warnings) == 1
    assert 'unreadable' not in dataset[2]['data_samples']


def test_every_view_is_blank(tmp_path):
    dataset = measured(tmp_path, pipeline=VIEWS)
    dataset.drops_predictions = True
    views = dataset[3]
    assert [tuple(one.shape) for one in views['inputs']] == [(3, 24, 32), (3, 48, 64)]
    assert all(one.unreadable for one in views['data_samples'])


@pytest.mark.parametrize(
    'loader, shape, dtype',
    [
        (dict(), (3, 32, 32), torch.uint8),
        (dict(to_float32=True), (3, 32, 32), torch.float32),
        (dict(color_type='grayscale'), (1, 32, 32), torch.uint8),
    ],
)
def test_a_blank_image_where_the_size_is_not_known(loader, shape, dtype, tmp_path):
    dataset = measured(tmp_path, 'labels', pipeline=[dict(PIPELINE[0], **loader), *PIPELINE[1:]])
    dataset.drops_predictions = True
    inputs = dataset[3]['inputs']
    assert (inputs.shape, inputs.dtype) == (shape, dtype)
    whole = dataset[2]['inputs']
    assert (whole.dtype, whole.dim()) == (dtype, inputs.dim())


@pytest.mark.parametrize(
    'pipeline',
    [
        TEST[:-1],  # not packed
        [dict(type='LoadImageFromFile', imdecode_backend='pillow'), lambda x: x],
    ],
)
def test_other_pipelines_cannot_be_tested_with(pipeline, tmp_path):
    dataset = measured(tmp_path, pipeline=pipeline)
    dataset.drops_predictions = True
    with pytest.raises(
        RuntimeError,
        match='cannot prepare .*3.jpg: .*ends in PackDetInputs, got .*LoadImageFromFile',
    ):
        dataset[3]


def test_with_opencv(tmp_path):
    dataset = coco_set(tmp_path, **SKIP, pipeline=[dict(type='LoadImageFromFile'), *PIPELINE[1:]])
    contents = ['text', 'empty', 'gif_header']
    for idx, name in enumerate(contents):
        spoil(dataset, idx, content=BAD_FILES[name])
        assert taken(dataset, idx) != path_of(dataset, idx)
    assert len(dataset.bad_images) == len(contents)


def test_huge_images_below_the_limit_are_good(tmp_path, monkeypatch):
    dataset = coco_set(tmp_path, **SKIP)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 64 * 48 // 2)
    assert taken(dataset, 0) == path_of(dataset, 0)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 64 * 48 // 2 - 1)
    with pytest.raises(RuntimeError, match='8 of 8 images'):
        dataset[0]
