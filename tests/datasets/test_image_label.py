"""ImageLabelDataset: labels from folders, CSV, COCO JSON and VOC image sets."""

import json
import shutil

import pytest
from mmdet.registry import DATASETS

from mmgwap.datasets.samplers import boxed_images

from .helpers import CLASSES, COMMON, MOSAIC, PIPELINE, coco, infos, write_images

LABELS = [['cat'], ['dog'], ['cat', 'dog'], ['dog']]
FILES = dict(folders='', csv='labels.csv', coco='labels.json', voc='Main/{}_train.txt')


def config(format, root, **options):
    cfg = dict(type='mmgwap.ImageLabelDataset', format=format, data_prefix=dict(img='img/'))
    cfg.update(COMMON, data_root=str(root), ann_file=FILES.get(format, ''))
    return dict(cfg, **options)


def build(format, root, **options):
    return DATASETS.build(config(format, root, **options))


def write(format, root, labels):
    write_images(root if format == 'folders' else root / 'img', len(labels))
    WRITERS[format](root, labels)


def write_folders(root, labels):
    for i, names in enumerate(labels):
        for name in names[:1] or ['none']:
            (root / 'img' / name / 'sub').mkdir(parents=True, exist_ok=True)
            shutil.move(root / f'{i}.jpg', root / 'img' / name / 'sub')


def write_csv(root, labels):
    rows = [f'{i}.jpg,{name}' for i, names in enumerate(labels) for name in names or ['']]
    (root / 'labels.csv').write_text('\n'.join(['image,label', *rows]))


def write_json(root, labels):
    ids = dict(cat=5, dog=6)
    images = [
        dict(id=i, file_name=f'{i}.jpg', image_labels=[ids.get(name, 7) for name in names])
        for i, names in enumerate(labels)
    ]
    categories = [dict(id=i, name=name) for name, i in ids.items()]
    (root / 'labels.json').write_text(json.dumps(dict(images=images, categories=categories)))


def write_image_sets(root, labels):
    (root / 'Main').mkdir()
    for name in ('cat', 'dog'):
        lines = [f'{i} {1 if name in names else -1:2d}' for i, names in enumerate(labels)]
        (root / 'Main' / f'{name}_train.txt').write_text('\n'.join(lines))


WRITERS = dict(folders=write_folders, csv=write_csv, coco=write_json, voc=write_image_sets)
but_voc = pytest.mark.parametrize('format', ['folders', 'csv', 'coco'])


def labels_of(dataset):
    """Return the present and unknown classes of each sample, by image number."""
    found = {}
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        number = int(sample.img_path.split('/')[-1].split('.')[0])
        found[number] = (sample.gt_image_labels.tolist(), sample.ignored_image_labels.tolist())
        assert sample.has_boxes is False and 'gt_instances' not in sample
    return found


@pytest.mark.parametrize('format', FILES)
def test_labels(format, tmp_path):
    labels = LABELS if format != 'folders' else [names[:1] for names in LABELS]
    write(format, tmp_path, labels)
    dataset = build(format, tmp_path)
    assert not dataset.boxed.any() and len(dataset) == 4
    assert labels_of(dataset) == {
        i: ([CLASSES['classes'].index(name) for name in names], [])
        for i, names in enumerate(labels)
    }
    assert [dataset.get_cat_ids(i) for i in range(4)] == [
        info['image_labels'] for info in infos(dataset)
    ]


@but_voc
def test_incomplete_labels(format, tmp_path):
    write(format, tmp_path, [['cat'], ['dog']])
    assert labels_of(build(format, tmp_path, complete=False)) == {0: ([0], [1]), 1: ([1], [0])}


@pytest.mark.parametrize('unlabelled, ignored', [('ignore', [0, 1]), ('negative', [])])
@pytest.mark.parametrize('format', ['csv', 'coco'])
def test_images_without_labels(format, tmp_path, warnings, unlabelled, ignored):
    write(format, tmp_path, [['cat'], []])
    dataset = build(format, tmp_path, unlabelled=unlabelled)
    assert labels_of(dataset) == {0: ([0], []), 1: ([], ignored)}
    (message,) = (text for text in warnings if 'neither' in text)
    assert '1 images' in message and '1.jpg' in message
    with pytest.raises(ValueError, match='1 images have neither'):
        build(format, tmp_path, unlabelled='error')


@but_voc
def test_unlisted_labels(format, tmp_path, warnings):
    write(format, tmp_path, [['cat'], ['cow']])
    with pytest.raises(ValueError, match='cow|id 7'):
        build(format, tmp_path)
    ignore = dict(unlisted_categories='ignore')
    assert labels_of(build(format, tmp_path, **ignore)) == {0: ([0], []), 1: ([], [0, 1])}
    assert any('not among the classes' in text for text in warnings)
    dataset = build(format, tmp_path, **ignore, unlabelled='negative')
    assert labels_of(dataset) == {0: ([0], []), 1: ([], [])}
    # With incomplete labels nothing is known about the classes of image 1.
    assert labels_of(build(format, tmp_path, **ignore, complete=False)) == {0: ([0], [1])}
    assert any('1 images left out' in text for text in warnings)
    if format != 'coco':
        assert labels_of(build(format, tmp_path, names=dict(cow='dog')))[1] == ([1], [])


def test_labels_from_annotations(tmp_path):
    ann_file = coco(tmp_path)['ann_file']
    dataset = build('coco', tmp_path, ann_file=ann_file, unlabelled='negative')
    assert [labels for labels, _ in labels_of(dataset).values()] == [[0], [1], [0, 1], [1], [], [0]]


def test_difficult_objects_of_voc(tmp_path):
    write('voc', tmp_path, [['cat'], ['dog']])
    (tmp_path / 'Main' / 'dog_train.txt').write_text('0  0\n1  1\n')
    assert labels_of(build('voc', tmp_path)) == {0: ([0], [1]), 1: ([1], [])}


def test_absent_classes_of_voc(tmp_path, warnings):
    write('voc', tmp_path, [['cat'], []])
    for complete in (True, False):
        dataset = build('voc', tmp_path, complete=complete)
        assert labels_of(dataset) == {0: ([0], []), 1: ([], [])}
    assert not [text for text in warnings if 'neither' in text]
    (tmp_path / 'Main' / 'dog_train.txt').write_text('0 -1\n')
    assert labels_of(build('voc', tmp_path, complete=False)) == {0: ([0], []), 1: ([], [1])}


EMPTY = '"images": [], "categories": []'
ORPHAN = f'{{{EMPTY}, "annotations": [{{"id": 3, "image_id": 9, "category_id": 1}}]}}'


@pytest.mark.parametrize(
    'format, path, content, message',
    [
        ('csv', 'labels.csv', 'path,label\na,cat\n', 'columns image and label'),
        ('csv', 'labels.csv', 'image,label\n0.jpg\n', 'line 2'),
        ('csv', 'labels.csv', 'image,label\n', 'no images'),
        ('coco', 'labels.json', f'{{{EMPTY}}}', 'no images'),
        ('coco', 'labels.json', ORPHAN, 'annotation 3.* id 9'),
        ('voc', 'Main/cat_train.txt', '0 2\n', "line 1: .* got '0 2'"),
        ('voc', 'Main/cat_train.txt', '0 yes\n', "line 1: .* got '0 yes'"),
        ('voc', 'Main/cat_train.txt', '0 1\n\n0 -1\n', 'line 3: 0 '),
    ],
)
def test_name_the_fault(tmp_path, format, path, content, message):
    write(format, tmp_path, [['cat']])
    (tmp_path / path).write_text(content)
    with pytest.raises(ValueError, match=f'{path}.*{message}') as caught:
        build(format, tmp_path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'labels, options, message',
    [
        (['cat'], dict(names=dict(n01='cow')), "'n01' to 'cow'"),
        (['cat'], dict(data_prefix=dict()), 'data_prefix'),
        (['cat'], dict(metainfo=None), 'metainfo'),
        (['cat'], dict(pipeline=MOSAIC), 'CachedMosaic'),
        (['cat'], dict(format='other'), "format .* got 'other'"),
        (['cat'], dict(unlisted_categories='no'), "unlisted_categories .* got 'no'"),
        (['cat'], dict(unlabelled='no'), "unlabelled .* got 'no'"),
        (['cow'], dict(unlisted_categories='ignore', complete=False), 'no image has a label'),
        (['cat'], dict(format='voc', ann_file='Main/cat_train.txt'), 'must have {}'),
    ],
)
def test_wrong_options(labels, options, message, tmp_path):
    write('csv', tmp_path, [labels])
    with pytest.raises(ValueError, match=message):
        build(**dict(dict(format='csv', root=tmp_path), **options))


def test_missing_files(tmp_path):
    write('voc', tmp_path, [['cat'], ['dog']])
    (tmp_path / 'Main' / 'dog_train.txt').unlink()
    with pytest.raises(ValueError, match="dog_train.txt: missing.*'dog'"):
        build('voc', tmp_path)
    with pytest.raises(ValueError, match='img/: contains no folders'):
        build('folders', tmp_path)
    write('csv', tmp_path, [['cat'], ['dog']])
    (tmp_path / 'img' / '1.jpg').unlink()
    with pytest.raises(RuntimeError, match='cannot prepare .*1.jpg'):
        build('csv', tmp_path)[1]


def test_random_crop_without_boxes(tmp_path):
    write('csv', tmp_path, [['cat'], ['dog']])
    pipeline = [*PIPELINE[:2], dict(type='RandomCrop', crop_size=(16, 16)), PIPELINE[-1]]
    dataset = build('csv', tmp_path, pipeline=pipeline)
    assert labels_of(dataset) == {0: ([0], []), 1: ([1], [])}


def test_csv_with_byte_order_mark(tmp_path):
    write('csv', tmp_path, [['cat']])
    path = tmp_path / 'labels.csv'
    path.write_text('\ufeff' + path.read_text())
    assert labels_of(build('csv', tmp_path)) == {0: ([0], [])}


def test_concatenate_with_images_that_have_boxes(tmp_path):
    (tmp_path / 'a').mkdir(), (tmp_path / 'b').mkdir()
    write('csv', tmp_path / 'b', LABELS)
    parts = [coco(tmp_path / 'a'), config('csv', tmp_path / 'b')]
    cfg = dict(type='ConcatDataset', datasets=parts, ignore_keys=['palette', 'dataset_type'])
    dataset = DATASETS.build(cfg)
    assert boxed_images(dataset).tolist() == [True] * 6 + [False] * 4
    assert dataset[7]['data_samples'].gt_image_labels.tolist() == [1]
