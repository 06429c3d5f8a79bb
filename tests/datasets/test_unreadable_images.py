"""Unreadable image files: an error with the path, or skipped and counted."""

import os
import re

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.runner.runner import _SlicedDataset
from torch.utils.data import DataLoader

from mmgwap.datasets import PartialBoxBatchSampler, unreadable_images
from mmgwap.datasets.unreadable_images import skipping_datasets, why_unreadable

from .bad_files import BAD_FILES
from .helpers import GOOD, PIPELINE, checked, coco, partial, split_file
from .test_image_label import build as build_labels
from .test_image_label import write as write_labels
from .test_wsol import build as build_wsol
from .test_wsol import write_split

REASONS = dict(empty='empty', truncated_jpeg='truncated', huge_png='DecompressionBombError')
BOXES = [[(GOOD, 'cat')], [(GOOD, 'dog')]] * 4
SKIP = dict(on_bad_image='skip')
TEST = [PIPELINE[0], dict(type='Resize', scale=(32, 32), keep_ratio=True), *PIPELINE[1:]]


def label_set(root, **options):
    write_labels('folders', root, [['cat'], ['dog']] * 4)
    return build_labels('folders', root, **options)


def wsol_set(root, **options):
    write_split(root, {f'{i}.jpg': i % 2 for i in range(8)})
    return build_wsol(root, **options)


def checked_coco(root, **options):
    return dict(coco(root, BOXES, **options), type='mmgwap.CheckedCocoDataset')


SETS = dict(
    coco=lambda root, **options: checked('coco', root, BOXES, **options),
    voc=lambda root, **options: checked('voc', root, BOXES, **options),
    yolo=lambda root, **options: checked('yolo', root, BOXES, **options),
    labels=label_set,
    wsol=wsol_set,
    partial=lambda root, **options: partial(checked_coco(root, **options), percent=50),
)
all_sets = pytest.mark.parametrize('kind', SETS)


def path_of(dataset, idx):
    return dataset.get_data_info(idx)['img_path']


def spoil(dataset, *indices, content=b''):
    for idx in indices:
        with open(path_of(dataset, idx), 'wb') as file:
            file.write(content)


def loaded_path(dataset, idx):
    return dataset[idx]['data_samples'].img_path


@pytest.mark.parametrize('kind', BAD_FILES)
def test_why_unreadable(kind, tmp_path):
    path = tmp_path / 'a.jpg'
    path.write_bytes(BAD_FILES[kind])
    reason = why_unreadable(str(path))
    assert reason and '\n' not in reason and REASONS.get(kind, '') in reason


@all_sets
def test_name_the_path_by_default(kind, tmp_path):
    dataset = SETS[kind](tmp_path)
    spoil(dataset, 3, content=BAD_FILES['truncated_jpeg'])
    message = f"cannot prepare {re.escape(path_of(dataset, 3))}: .*truncated.*on_bad_image='skip'"
    with pytest.raises(RuntimeError, match=message):
        dataset[3]
    assert not skipping_datasets(dataset)


@pytest.mark.parametrize(
    'kind, content', [*((kind, 'text') for kind in SETS), *(('coco', name) for name in BAD_FILES)]
)
def test_replace_skipped_images_and_count_them_once(kind, content, tmp_path, warnings):
    dataset = SETS[kind](tmp_path, **SKIP)
    (part,) = skipping_datasets(dataset)
    assert part.bad_images == []
    warnings.clear()
    spoil(dataset, 2, 5, content=BAD_FILES[content])
    bad = [path_of(dataset, idx) for idx in (2, 5)]
    for _ in range(3):
        assert not {loaded_path(dataset, idx) for idx in range(8)} & set(bad)
    assert part.bad_images == bad
    assert len(warnings) == 2
    for path in bad:
        (message,) = (message for message in warnings if message.startswith(path))
        assert 'skipped' in message and '\n' not in message


def test_number_of_tries(tmp_path):
    dataset = SETS['coco'](tmp_path, **SKIP, max_refetch=200)
    spoil(dataset, *range(7))
    assert {loaded_path(dataset, idx) for idx in range(8)} == {path_of(dataset, 7)}
    spoil(dataset, 7)
    with pytest.raises(RuntimeError, match='201 tries.*jpg; 8 of 8 images could not be read'):
        dataset[0]
    dataset = SETS['partial'](tmp_path, **SKIP, max_refetch=0)
    spoil(dataset, 1)
    with pytest.raises(RuntimeError, match=' 1 tries.*1.jpg; 1 of 8 images could not be read'):
        dataset[1]


@all_sets
def test_missing_files_are_always_an_error(kind, tmp_path):
    dataset = SETS[kind](tmp_path, **SKIP)
    os.remove(path_of(dataset, 0))
    os.remove(path_of(dataset, 1))
    os.mkdir(path_of(dataset, 1))
    for idx in (0, 1):
        path = re.escape(path_of(dataset, idx))
        with pytest.raises(RuntimeError, match=f'cannot prepare {path}'):
            dataset[idx]
    (part,) = skipping_datasets(dataset)
    assert part.bad_images == []


def test_other_failures_are_always_an_error(tmp_path):
    broken = [*PIPELINE[:2], dict(type='LoadProposals'), PIPELINE[2]]
    dataset = SETS['coco'](tmp_path, **SKIP, pipeline=broken)
    with pytest.raises(RuntimeError, match='cannot prepare .*0.jpg: .*proposals'):
        dataset[0]


@all_sets
def test_wrong_on_bad_image(kind, tmp_path):
    with pytest.raises(ValueError, match="on_bad_image .*'error', 'skip'.* got True"):
        SETS[kind](tmp_path, on_bad_image=True)


def test_do_not_read_known_unreadable_images_again(tmp_path, monkeypatch):
    dataset = SETS['coco'](tmp_path, **SKIP)
    spoil(dataset, 4)
    dataset[4]
    monkeypatch.setattr(unreadable_images, 'get', None)
    for _ in range(20):
        assert loaded_path(dataset, 4) != path_of(dataset, 4)


@pytest.mark.parametrize('kind', ['coco', 'partial'])
def test_random_choices_do_not_depend_on_known_images(kind, tmp_path):
    dataset = SETS[kind](tmp_path, **SKIP)
    spoil(dataset, 0, 1, 6)
    drawn = []
    for _ in range(2):
        np.random.seed(3)
        drawn.append([loaded_path(dataset, idx % 8) for idx in range(40)])
    assert drawn[0] == drawn[1]


def test_replace_partial_boxes_by_the_same_kind(tmp_path):
    dataset = partial(checked_coco(tmp_path, **SKIP), split_file=split_file(tmp_path, 0, 1, 4))
    spoil(dataset, 0, 3, 7)
    sampler = PartialBoxBatchSampler(DefaultSampler(dataset, seed=0), batch_size=3, num_boxed=1)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=pseudo_collate)
    seen = set()
    for epoch in range(8):
        sampler.sampler.set_epoch(epoch)
        for batch in loader:
            samples = batch['data_samples']
            assert [sample.has_boxes for sample in samples] == [True, False, False]
            seen |= {sample.img_id for sample in samples}
    assert seen == {1, 2, 4, 5, 6}
    assert dataset.dataset.bad_images == [path_of(dataset, idx) for idx in (0, 3, 7)]


def test_count_unreadable_images_with_boxes_only(tmp_path):
    cfg = checked_coco(tmp_path, **SKIP)
    dataset = partial(cfg, split_file=split_file(tmp_path, 2, 5, 6), boxes_only=True)
    spoil(dataset, 1)
    assert loaded_path(dataset, 1) in (path_of(dataset, 0), path_of(dataset, 2))
    (path,) = dataset.dataset.bad_images
    assert path == path_of(dataset, 1) and path.endswith('5.jpg')


def test_name_the_path_of_a_plain_data_set(tmp_path):
    dataset = partial(coco(tmp_path, BOXES), percent=50)
    spoil(dataset, 3)
    with pytest.raises(RuntimeError, match='cannot prepare .*3.jpg: ') as caught:
        dataset[3]
    assert 'on_bad_image' not in str(caught.value)


@pytest.mark.parametrize('start, workers', [('fork', 2), ('spawn', 1)])
def test_share_the_record_between_workers(start, workers, tmp_path):
    dataset = label_set(tmp_path, **SKIP)
    options = dict(num_workers=workers, persistent_workers=True, multiprocessing_context=start)
    loader = DataLoader(dataset, batch_size=2, collate_fn=pseudo_collate, **options)
    spoil(dataset, 1, content=BAD_FILES['text'])
    list(loader)
    assert dataset.bad_images == [path_of(dataset, 1)]
    spoil(dataset, 6)  # persistent workers report later images too
    list(loader)
    assert dataset.bad_images == [path_of(dataset, idx) for idx in (1, 6)]


def test_find_skipping_data_sets_in_wrappers(tmp_path):
    parts = {}
    for name, rule in zip('abc', ('skip', 'error', 'skip')):
        (tmp_path / name).mkdir()
        parts[name] = checked_coco(tmp_path / name, on_bad_image=rule)
    concatenated = dict(type='ConcatDataset', datasets=[parts['b'], parts['c']])
    inside = dict(type='mmgwap.PartialBoxDataset', percent=50, dataset=concatenated)
    repeated = dict(type='RepeatDataset', times=2, dataset=inside)
    mixed = dict(type='ConcatDataset', datasets=[parts['a'], repeated])
    mixed = DATASETS.build(dict(mixed, ignore_keys=['cumulative_sizes']))
    # num_batch_per_epoch wraps the data set in a _SlicedDataset.
    for dataset in (mixed, _SlicedDataset(mixed, 3)):
        files = [part.ann_file for part in skipping_datasets(dataset)]
        assert files == [str(tmp_path / name / 'coco.json') for name in 'ac']
    base = skipping_datasets(mixed)[0]
    assert skipping_datasets(_SlicedDataset(base, 3)) == [base]
    assert skipping_datasets(DATASETS.build(parts['b'])) == []
    assert skipping_datasets(DATASETS.build(coco(tmp_path / 'b'))) == []


def spoiled_test_set(root, kind='coco', drops_predictions=True, **options):
    """Build a data set in test mode, with one unreadable image."""
    dataset = SETS[kind](root, **dict(dict(pipeline=TEST), **options), test_mode=True, **SKIP)
    spoil(dataset, 3, content=BAD_FILES['truncated_jpeg'])
    dataset.drops_predictions = drops_predictions
    return dataset


@pytest.mark.parametrize('kind', ['coco', 'labels', 'wsol', 'partial'])
def test_require_the_hook_in_test_mode(kind, tmp_path):
    dataset = spoiled_test_set(tmp_path, kind, drops_predictions=False)
    message = f'{re.escape(path_of(dataset, 3))}: .*truncated.*mmgwap.BadImagesHook'
    for _ in range(2):
        with pytest.raises(RuntimeError, match=message):
            dataset[3]
    assert not dataset[2]['data_samples'].get('unreadable')


def test_blank_image_of_the_same_size(tmp_path, warnings):
    dataset = spoiled_test_set(tmp_path)
    whole = dataset[2]
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


def test_blank_image_in_every_view(tmp_path):
    resize = [dict(type='Resize', scale=(s, s), keep_ratio=True) for s in (32, 64)]
    views = dict(type='TestTimeAug', transforms=[resize, [PIPELINE[1]], [PIPELINE[2]]])
    sample = spoiled_test_set(tmp_path, pipeline=[PIPELINE[0], views])[3]
    assert [tuple(view.shape) for view in sample['inputs']] == [(3, 24, 32), (3, 48, 64)]
    assert all(view.unreadable for view in sample['data_samples'])


@pytest.mark.parametrize(
    'loader, shape, dtype',
    [
        (dict(), (3, 32, 32), torch.uint8),
        (dict(to_float32=True), (3, 32, 32), torch.float32),
        (dict(color_type='grayscale'), (1, 32, 32), torch.uint8),
    ],
)
def test_blank_image_of_unknown_size(loader, shape, dtype, tmp_path):
    pipeline = [dict(PIPELINE[0], **loader), *PIPELINE[1:]]
    dataset = spoiled_test_set(tmp_path, 'labels', pipeline=pipeline)
    blank, whole = (dataset[idx]['inputs'] for idx in (3, 2))
    assert (blank.shape, blank.dtype) == (shape, dtype)
    assert (whole.dtype, whole.dim()) == (dtype, blank.dim())


@pytest.mark.parametrize('pipeline', [TEST[:-1], [PIPELINE[0], lambda results: results]])
def test_blank_images_require_a_packing_pipeline(pipeline, tmp_path):
    message = 'cannot prepare .*3.jpg: .*ends in PackDetInputs, got .*LoadImageFromFile'
    with pytest.raises(RuntimeError, match=message):
        spoiled_test_set(tmp_path, pipeline=pipeline)[3]


def test_skip_images_that_opencv_cannot_read(tmp_path):
    pipeline = [dict(type='LoadImageFromFile'), *PIPELINE[1:]]
    dataset = SETS['coco'](tmp_path, **SKIP, pipeline=pipeline)
    for idx, name in enumerate(['text', 'empty', 'gif_header']):
        spoil(dataset, idx, content=BAD_FILES[name])
        assert loaded_path(dataset, idx) != path_of(dataset, idx)
    assert len(dataset.bad_images) == 3
