"""Labels from folders, CSV, COCO JSON and VOC's image sets."""

import json
import shutil

import pytest
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules

from mmgwap.datasets.samplers import boxed_images

from .test_checked import CLASSES, PIPELINE, write_images
from .test_partial_box import BOXES, MOSAIC, coco

register_all_modules()
LABELS = [['cat'], ['dog'], ['cat', 'dog'], ['dog']]


def build(format, root, **kwargs):
    return DATASETS.build(
        dict(
            dict(
                type='mmgwap.ImageLabelDataset',
                format=format,
                data_root=str(root),
                data_prefix=dict(img='img/'),
                metainfo=CLASSES,
                pipeline=PIPELINE,
                ann_file=FILES.get(format, ''),
            ),
            **kwargs,
        )
    )


def folders(root, labels):
    for i, names in enumerate(labels):
        for name in names[:1] or ['none']:
            (root / 'img' / name / 'sub').mkdir(parents=True, exist_ok=True)
            shutil.move(root / f'{i}.jpg', root / 'img' / name / 'sub')


def csv(root, labels):
    rows = [f'{i}.jpg,{name}' for i, names in enumerate(labels) for name in names or ['']]
    (root / 'labels.csv').write_text('\n'.join(['image,label', *rows]))


def coco_json(root, labels):
    ids = dict(cat=5, dog=6)
    images = [
        dict(
            id=i,
            file_name=f'{i}.jpg',
            width=64,
            height=48,
            image_labels=[ids.get(name, 7) for name in names],
        )
        for i, names in enumerate(labels)
    ]
    (root / 'labels.json').write_text(
        json.dumps(
            dict(images=images, categories=[dict(id=i, name=name) for name, i in ids.items()])
        )
    )


def voc(root, labels):
    (root / 'Main').mkdir()
    for name in ('cat', 'dog'):
        lines = [f'{i} {1 if name in names else -1:2d}' for i, names in enumerate(labels)]
        (root / 'Main' / f'{name}_train.txt').write_text('\n'.join(lines))


FILES = dict(folders='', csv='labels.csv', coco='labels.json', voc='Main/{}_train.txt')
WRITERS = dict(folders=folders, csv=csv, coco=coco_json, voc=voc)


@pytest.fixture(params=WRITERS)
def format(request):
    return request.param


def write(format, root, labels):
    where = root if format == 'folders' else root / 'img'
    write_images(where, len(labels))
    WRITERS[format](root, labels)


def labels_of(dataset):
    found = {}
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        number = int(sample.img_path.split('/')[-1].split('.')[0])
        found[number] = (sample.gt_image_labels.tolist(), sample.ignored_image_labels.tolist())
        assert sample.has_boxes is False and 'gt_instances' not in sample
    return found


def test_labels(format, tmp_path):
    labels = LABELS if format != 'folders' else [names[:1] for names in LABELS]
    write(format, tmp_path, labels)
    dataset = build(format, tmp_path)
    assert not dataset.boxed.any() and len(dataset) == 4
    assert labels_of(dataset) == {
        i: ([CLASSES['classes'].index(name) for name in names], [])
        for i, names in enumerate(labels)
    }
    assert [sorted(dataset.get_cat_ids(i)) for i in range(4)] == [
        info['image_labels'] for info in map(dataset.get_data_info, range(4))
    ]


@pytest.mark.parametrize('format', ['folders', 'csv', 'coco'])
def test_incomplete_labels(format, tmp_path):
    write(format, tmp_path, [['cat'], ['dog']])
    dataset = build(format, tmp_path, complete=False)
    assert labels_of(dataset) == {0: ([0], [1]), 1: ([1], [0])}


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


@pytest.mark.parametrize('format', ['folders', 'csv', 'coco'])
def test_labels_that_are_no_classes(format, tmp_path, warnings):
    write(format, tmp_path, [['cat'], ['cow']])
    with pytest.raises(ValueError, match='cow|id 7'):
        build(format, tmp_path)
    dataset = build(format, tmp_path, unlisted_categories='ignore')
    assert any('not among the classes' in text for text in warnings)
    assert labels_of(dataset) == {0: ([0], []), 1: ([], [0, 1])}
    dataset = build(format, tmp_path, unlisted_categories='ignore', unlabelled='negative')
    assert labels_of(dataset) == {0: ([0], []), 1: ([], [])}
    # An incomplete label that is no class says nothing of the others.
    dataset = build(format, tmp_path, unlisted_categories='ignore', complete=False)
    assert labels_of(dataset) == {0: ([0], [1])}
    assert any('1 images left out' in text for text in warnings)
    if format != 'coco':
        dataset = build(format, tmp_path, names=dict(cow='dog'))
        assert labels_of(dataset)[1] == ([1], [])


def test_names_that_stand_for_no_class(tmp_path):
    write('csv', tmp_path, [['cat']])
    with pytest.raises(ValueError, match="names maps 'n01' to 'cow'"):
        build('csv', tmp_path, names=dict(n01='cow'))


def test_annotations_give_labels_too(tmp_path):
    cfg = coco(tmp_path, BOXES)
    dataset = build('coco', tmp_path, ann_file=cfg['ann_file'], unlabelled='negative')
    assert [labels for labels, _ in labels_of(dataset).values()] == [[0], [1], [0, 1], [1], [], [0]]


def test_difficult_objects_of_voc(tmp_path):
    write('voc', tmp_path, [['cat'], ['dog']])
    (tmp_path / 'Main' / 'dog_train.txt').write_text('0  0\n1  1\n')
    assert labels_of(build('voc', tmp_path)) == {0: ([0], [1]), 1: ([1], [])}


@pytest.mark.parametrize(
    'format, path, content, message',
    [
        ('csv', 'labels.csv', 'path,label\na,cat\n', 'columns image and label'),
        ('csv', 'labels.csv', 'image,label\n0.jpg\n', 'line 2'),
        ('csv', 'labels.csv', '', 'columns image and label'),
        ('csv', 'labels.csv', 'image,label\n', 'no images found'),
        ('coco', 'labels.json', '{"images": [], "categories": []}', 'no image'),
        (
            'coco',
            'labels.json',
            '{"images": [], "categories": [], "annotations":'
            ' [{"id": 3, "image_id": 9, "category_id": 1}]}',
            'annotation 3.* id 9',
        ),
        ('voc', 'Main/cat_train.txt', '0 2\n', 'cat_train.txt, line 1'),
        ('voc', 'Main/cat_train.txt', '0\n', 'cat_train.txt, line 1'),
    ],
)
def test_malformed_files(tmp_path, format, path, content, message):
    write(format, tmp_path, [['cat']])
    (tmp_path / path).write_text(content)
    with pytest.raises(ValueError, match=message):
        build(format, tmp_path)


def test_what_vocs_image_sets_rule_out(tmp_path, warnings):
    write('voc', tmp_path, [['cat'], []])
    for complete in (True, False):
        dataset = build('voc', tmp_path, complete=complete)
        assert labels_of(dataset) == {0: ([0], []), 1: ([], [])}
    assert not [text for text in warnings if 'neither' in text]
    (tmp_path / 'Main' / 'dog_train.txt').write_text('0 -1\n')
    dataset = build('voc', tmp_path, complete=False)
    assert labels_of(dataset) == {0: ([0], []), 1: ([], [1])}


def test_a_crop_need_not_hold_a_box(tmp_path):
    write('csv', tmp_path, [['cat'], ['dog']])
    pipeline = [*PIPELINE[:2], dict(type='RandomCrop', crop_size=(16, 16)), PIPELINE[-1]]
    dataset = build('csv', tmp_path, pipeline=pipeline)
    assert labels_of(dataset) == {0: ([0], []), 1: ([1], [])}


def test_the_mark_of_a_spreadsheet(tmp_path):
    write('csv', tmp_path, [['cat']])
    text = (tmp_path / 'labels.csv').read_text()
    (tmp_path / 'labels.csv').write_text('\ufeff' + text)
    assert labels_of(build('csv', tmp_path)) == {0: ([0], [])}


def test_the_folder_of_the_images_must_be_given(tmp_path):
    write('csv', tmp_path, [['cat']])
    with pytest.raises(ValueError, match='data_prefix'):
        build('csv', tmp_path, data_prefix=dict())


def test_no_image_of_any_class(tmp_path):
    write('csv', tmp_path, [['cow']])
    with pytest.raises(ValueError, match='no image has a label'):
        build('csv', tmp_path, unlisted_categories='ignore', complete=False)


def test_a_missing_image_set(tmp_path):
    write('voc', tmp_path, [['cat']])
    (tmp_path / 'Main' / 'dog_train.txt').unlink()
    with pytest.raises(ValueError, match="dog_train.txt: missing.*'dog'"):
        build('voc', tmp_path)
    with pytest.raises(ValueError, match='must have {}'):
        build('voc', tmp_path, ann_file='Main/cat_train.txt')


def test_no_folders(tmp_path):
    write_images(tmp_path / 'img', 1)
    with pytest.raises(ValueError, match='contains no folders'):
        build('folders', tmp_path)


@pytest.mark.parametrize('name', ['format', 'unlisted_categories', 'unlabelled'])
def test_wrong_choices(name, tmp_path):
    kwargs = dict(dict(format='csv'), **{name: 'other'})
    with pytest.raises(ValueError, match=f'{name} must be one of'):
        build(kwargs.pop('format'), tmp_path, ann_file='', **kwargs)


def test_classes_must_be_given(tmp_path):
    write('csv', tmp_path, [['cat']])
    with pytest.raises(ValueError, match='metainfo'):
        build('csv', tmp_path, metainfo=None)


def test_a_missing_image_is_named(tmp_path):
    write('csv', tmp_path, [['cat'], ['dog']])
    (tmp_path / 'img' / '1.jpg').unlink()
    with pytest.raises(RuntimeError, match='cannot prepare .*1.jpg'):
        build('csv', tmp_path)[1]


def test_mixing_augmentations_are_refused(tmp_path):
    write('csv', tmp_path, [['cat']])
    with pytest.raises(ValueError, match='CachedMosaic'):
        build('csv', tmp_path, pipeline=MOSAIC)


def test_beside_boxed_images(tmp_path):
    (tmp_path / 'a').mkdir(), (tmp_path / 'b').mkdir()
    write('csv', tmp_path / 'b', LABELS)
    dataset = DATASETS.build(
        dict(
            type='ConcatDataset',
            datasets=[
                coco(tmp_path / 'a'),
                dict(
                    type='mmgwap.ImageLabelDataset',
                    format='csv',
                    metainfo=CLASSES,
                    data_root=str(tmp_path / 'b'),
                    data_prefix=dict(img='img/'),
                    ann_file='labels.csv',
                    pipeline=PIPELINE,
                ),
            ],
            ignore_keys=['palette', 'dataset_type'],
        )
    )
    assert boxed_images(dataset).tolist() == [True] * 6 + [False] * 4
    assert dataset[7]['data_samples'].gt_image_labels.tolist() == [1]
