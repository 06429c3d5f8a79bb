"""Boxes of a results file on images with labels only."""

import json
import pickle

import numpy as np
import pytest
from mmdet.registry import DATASETS

from mmgwap.datasets.results_file import Categories, ImageEntry, read_results

from .helpers import (
    BOXES,
    CLASSES,
    GOOD,
    PIPELINE,
    captured_log,
    coco,
    partial,
    split_file,
    voc,
    write_image,
)

CATEGORIES = Categories(dict(cat=0, dog=1), {5: 0, 6: 1})


def result(image_id, bbox=(10, 10, 30, 20), score=0.5, **category):
    entry = dict(image_id=image_id, bbox=list(bbox), score=score)
    return {**entry, **(category or dict(category_id=6))}


def write(root, *entries):
    path = root / 'results.json'
    path.write_text(json.dumps(entries))
    return str(path)


def instances(dataset, idx):
    sample = dataset[idx]['data_samples']
    found = sample.file_instances
    return found.bboxes.tolist(), found.labels.tolist(), found.scores.tolist()


EMPTY = ([], [], [])


@pytest.mark.parametrize('lazy', [False, True])
def test_boxes_of_images_without_boxes(tmp_path, lazy):
    path = write(
        tmp_path,
        result(1, (1, 2, 30, 40), 0.25),
        result(0),  # has boxes
        result('3', category_id=5),
        result(1, score=1, category_name='cat'),
    )
    cfg = dict(coco(tmp_path), lazy_init=lazy)
    with captured_log(0) as log:
        split = split_file(tmp_path, 0, 4)
        dataset = partial(cfg, split_file=split, pseudo_boxes=path, lazy_init=lazy)
        assert not lazy or not any('results.json' in text for text in log)
        dataset.full_init()
    (message,) = (text for text in log if 'results.json' in text)
    assert '3 boxes for 2 of the 4 images without boxes; 1 boxes of images that have' in message
    for each in (dataset, pickle.loads(pickle.dumps(dataset))):
        assert instances(each, 1) == ([[1, 2, 31, 42], [10, 10, 40, 30]], [1, 0], [0.25, 1])
        assert instances(each, 2) == instances(each, 5) == EMPTY
        assert instances(each, 3)[1:] == ([0], [0.5])
        for boxed in (0, 4):
            assert 'file_instances' not in each[boxed]['data_samples']
            assert 'file_instances' not in each.get_data_info(boxed)


def test_true_boxes_are_unchanged(tmp_path):
    """The boxes of the annotations in the results format come back, by their own category ids."""
    cfg = coco(tmp_path, [[(GOOD, 'cat'), ([0, 0, 64, 48], 'dog')], [([1, 1, 3, 4], 'dog')]])
    annotations = json.loads((tmp_path / 'coco.json').read_text())['annotations']
    path = write(tmp_path, *(dict(ann, score=0.5) for ann in reversed(annotations)))
    dataset = partial(cfg, percent=0, pseudo_boxes=path)
    for i in range(2):
        info = dataset.get_data_info(i)
        boxes = info['file_instances']
        assert boxes['bboxes'][::-1] == info['hidden_instances']['bboxes']
        assert boxes['labels'][::-1] == info['hidden_instances']['labels']


def test_concatenated_data_sets(tmp_path):
    """Each part has its own ids and category ids; a data set without category ids takes names."""
    (tmp_path / 'a').mkdir(), (tmp_path / 'b').mkdir(), (tmp_path / 'c').mkdir()
    first = coco(tmp_path / 'a', BOXES[:2])
    second = coco(tmp_path / 'b', BOXES[:3])
    file = tmp_path / 'b' / 'coco.json'
    content = json.loads(file.read_text())
    for image in content['images']:
        image['id'] += 10
    for ann in content['annotations']:
        ann.update(image_id=ann['image_id'] + 10, category_id=ann['category_id'] + 90)
    for category in content['categories']:
        category['id'] += 90
    file.write_text(json.dumps(content))
    third = voc(tmp_path / 'c', BOXES[:4])
    (tmp_path / 'c' / 'voc.txt').write_text('3')
    parts = dict(type='ConcatDataset', datasets=[first, second, third], ignore_keys=['palette'])
    parts['ignore_keys'] += ['dataset_type']
    entries = result(11, category_id=96), result(1), result(3, category_name='cat')
    dataset = partial(parts, percent=0, pseudo_boxes=write(tmp_path, *entries))
    labels = [instances(dataset, i)[1] for i in range(6)]
    assert labels == [[], [1], [], [1], [], [0]]
    path = write(tmp_path, result(11))
    with pytest.raises(ValueError, match=r'number 0: category_id 6 .* which has \[95, 96\]'):
        partial(parts, percent=0, pseudo_boxes=path)
    path = write(tmp_path, result(3))
    with pytest.raises(ValueError, match='number 0: category_name is missing.*without category'):
        partial(parts, percent=0, pseudo_boxes=path)


def test_shared_ids(tmp_path):
    (tmp_path / 'a').mkdir(), (tmp_path / 'b').mkdir()
    parts = [coco(tmp_path / name, BOXES[:count]) for name, count in (('a', 4), ('b', 2))]
    both = dict(type='ConcatDataset', datasets=parts)
    dataset = partial(both, percent=0, pseudo_boxes=write(tmp_path, result(2)))
    assert [len(instances(dataset, i)[1]) for i in range(6)] == [0, 0, 1, 0, 0, 0]
    with pytest.raises(ValueError, match="2 images of the data set have the image_id '1'"):
        partial(both, percent=0, pseudo_boxes=write(tmp_path, result(2), result(1)))


CSV = 'image,label\n0.jpg,cat\nsub/1.jpg,dog\n'
COCO = dict(
    images=[
        dict(id=8, file_name='0.jpg', image_labels=[95]),
        dict(id=9, file_name='sub/1.jpg', image_labels=[96, 3]),
    ],
    categories=[dict(id=96, name='hound'), dict(id=95, name='cat'), dict(id=3, name='cow')],
)


@pytest.mark.parametrize(
    'format, entry',
    [
        ('csv', result('sub/1.jpg', category_name='dog')),
        ('csv', result('sub/1.jpg', category_name='hound')),
        ('coco', result(9, category_id=96)),
        ('coco', result(9, category_name='hound')),
    ],
)
def test_image_label_dataset(tmp_path, format, entry):
    for name in ('0.jpg', 'sub/1.jpg'):
        write_image(tmp_path / 'img' / name)
    (tmp_path / 'csv').write_text(CSV)
    (tmp_path / 'coco').write_text(json.dumps(COCO))
    cfg = dict(
        type='mmgwap.ImageLabelDataset',
        format=format,
        ann_file=format,
        data_root=str(tmp_path),
        data_prefix=dict(img='img'),
        metainfo=CLASSES,
        names=dict(hound='dog'),
        unlisted_categories='ignore',
        pipeline=PIPELINE,
    )
    dataset = DATASETS.build(dict(cfg, pseudo_boxes=write(tmp_path, entry)))
    assert [instances(dataset, i) for i in range(2)] == [EMPTY, ([[10, 10, 40, 30]], [1], [0.5])]
    assert 'file_instances' not in DATASETS.build(cfg)[0]['data_samples']
    bad = {'category_id': 3, 'category_name': 'cow'}
    bad = {key: bad[key] for key in entry if key in bad}
    with pytest.raises(ValueError, match='results.json, entry number 0: category_'):
        DATASETS.build(dict(cfg, pseudo_boxes=write(tmp_path, {**entry, **bad})))


GOOD_ENTRY = result(7)


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(score=1.01), r'number 1: score must be a number in \[0, 1\], got 1.01'),
        (dict(score=-0.01), 'number 1: score must be'),
        (dict(score=float('nan')), 'number 1: score must be .* got nan'),
        (dict(score='0.5'), "number 1: score must be .* got '0.5'"),
        (dict(score=True), 'number 1: score must be .* got True'),
        (dict(score=None), 'number 1: score must be .* got None'),
        (dict(bbox=[1, 2, 3]), 'number 1: bbox must be four finite numbers'),
        (dict(bbox=[1, 2, 3, float('inf')]), 'number 1: bbox must be'),
        (dict(bbox=[1, 2, 3, float('nan')]), 'number 1: bbox must be'),
        (dict(bbox=[1, 2, 3, 10**400]), 'number 1: bbox must be'),
        (dict(bbox=[1, 2, 3, '4']), 'number 1: bbox must be'),
        (dict(bbox=dict(x=1)), 'number 1: bbox must be'),
        (dict(image_id=1.5), 'number 1: image_id must be an int or a string, got 1.5'),
        (dict(category_id=[6]), 'number 1: category_id must be an int or a string'),
        (dict(category_id=7), r'number 1: category_id 7 is not in .* which has \[5, 6\]'),
        (dict(category_name='cow'), "number 1: category_name 'cow' is not .*'cat', 'dog'"),
        (dict(category_name=3), 'number 1: category_name must be'),
    ],
)
def test_wrong_values(tmp_path, changes, message):
    path = write(tmp_path, GOOD_ENTRY, {**GOOD_ENTRY, **changes})
    with pytest.raises(ValueError, match=f'results.json, entry {message}') as caught:
        read_results(path, [ImageEntry(7, CATEGORIES)])
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('key', GOOD_ENTRY)
def test_missing_keys(tmp_path, key):
    entry = {name: value for name, value in GOOD_ENTRY.items() if name != key}
    with pytest.raises(ValueError, match=f'results.json, entry number 1: {key} .*is missing'):
        read_results(write(tmp_path, GOOD_ENTRY, entry), [ImageEntry(7, CATEGORIES)])


@pytest.mark.parametrize(
    'text, message',
    [
        ('[', 'invalid JSON'),
        ('{"images": [], "annotations": []}', 'must be a JSON list of results.*ann_file'),
        ('3', 'must be a JSON list of results.* got int'),
        ('[3]', 'entry number 0: must be an object, got 3'),
    ],
)
def test_other_files(tmp_path, text, message):
    path = tmp_path / 'results.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=f'results.json.*{message}'):
        read_results(str(path), [ImageEntry(7, CATEGORIES)])


def test_unknown_images(tmp_path, warnings):
    path = write(tmp_path, result(3), result('x'), result(7))
    images = [ImageEntry(i, CATEGORIES) for i in (7, 1)]
    boxes = read_results(path, images)
    assert boxes[0]['labels'] == [1] and boxes[1]['labels'] == []
    (message,) = warnings
    assert '2 of 3 entries belong to no image of the data set, such as number 0' in message
    with pytest.raises(ValueError, match='1 of 1 entries.*image_id=3; .* ids such as 7'):
        read_results(write(tmp_path, result(3)), images)


def test_empty_list(tmp_path):
    assert read_results(write(tmp_path), [ImageEntry(7, CATEGORIES)])[0] == dict(
        bboxes=[], labels=[], scores=[]
    )


def test_degenerate_boxes(tmp_path, warnings):
    shapes = [(0, 0, 0, 5), (0, 0, 5, -1), (64, 0, 5, 5), (63, 47, 5, 5), (-5, 0, 5, 5)]
    path = write(tmp_path, result(7), *(result(7, shape) for shape in shapes))
    (boxes,) = [read_results(path, [ImageEntry(7, CATEGORIES, size=(64, 48))])[0]['bboxes']]
    assert boxes == [[10, 10, 40, 30], [63, 47, 68, 52]]
    (message,) = warnings
    assert 'dropped 4 boxes' in message and 'the first in entry number 1' in message
    # Without a size, only the box left of the image is known to be outside.
    assert len(read_results(path, [ImageEntry(7, CATEGORIES)])[0]['bboxes']) == 3


def test_order_of_many_entries(tmp_path):
    """Compare with a loop over shuffled entries."""
    random = np.random.RandomState(0)
    entries = [
        result(int(i), score=round(float(score), 4), category_id=int(c))
        for i, score, c in zip(
            random.randint(0, 20, 200), random.rand(200), random.randint(5, 7, 200)
        )
    ]
    images = [ImageEntry(i, CATEGORIES, wanted=i % 3 > 0) for i in random.permutation(25)]
    boxes = read_results(write(tmp_path, *entries), images)
    for index, image in enumerate(images):
        own = [entry for entry in entries if image.wanted and entry['image_id'] == image.id]
        assert boxes[index]['scores'] == pytest.approx([entry['score'] for entry in own])
        assert boxes[index]['labels'] == [entry['category_id'] - 5 for entry in own]


def test_boxes_only(tmp_path):
    with pytest.raises(ValueError, match="pseudo_boxes='a.json'.*boxes_only"):
        partial(coco(tmp_path), percent=50, boxes_only=True, pseudo_boxes='a.json')
