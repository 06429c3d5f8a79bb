"""Images of one class each, in the layout of the WSOL evaluation."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.logging import MMLogger
from PIL import Image
from wsol_writer import write_wsol_metadata

from mmgwap.datasets.samplers import boxed_images
from mmgwap.datasets.wsol_metadata import Masks, WSOLMetadata, read_wsol_metadata

from .test_checked import PIPELINE
from .test_partial_box import MOSAIC

register_all_modules()
CONFIGS = Path(__file__).resolve().parents[2] / 'configs/_base_/datasets'
WSOL = ('ilsvrc_cls_loc', 'cub_200_2011', 'openimages30k', 'digits_single')
FILES = {
    'image_ids.txt': 'a/0.jpg\nb/1.jpg\nc.jpg\n',
    'class_labels.txt': 'b/1.jpg,2\na/0.jpg,0\nc.jpg,2\n',
    'image_sizes.txt': 'a/0.jpg,64,48\nb/1.jpg,50,40\n',
    'classes.txt': 'cat\ndog, hound\ncow\n',
}


@pytest.fixture
def root(tmp_path):
    """Three images, of 64 x 48, 50 x 40 and 30 x 20 px."""
    for i, (name, size) in enumerate((('a/0', (48, 64)), ('b/1', (40, 50)), ('c', (20, 30)))):
        write_image(tmp_path / 'img' / f'{name}.jpg', size, i)
    (tmp_path / 'meta').mkdir()
    for name, text in FILES.items():
        (tmp_path / 'meta' / name).write_text(text)
    return tmp_path


def write_image(path, size, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 255, (*size, 3))
    assert cv2.imwrite(str(path), pixels.astype(np.uint8))


def build(root, **kwargs):
    return DATASETS.build(
        dict(
            dict(
                type='mmgwap.WSOLDataset',
                data_root=str(root),
                metadata_root='meta/',
                data_prefix=dict(img='img/'),
                pipeline=PIPELINE,
            ),
            **kwargs,
        )
    )


def configured(name, root, loader):
    """The data set of a base config, with the folder ``root`` for data/."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    dataset = cfg[f'{loader}_dataloader'].dataset
    assert dataset.data_root.startswith('data/')
    dataset.data_root = str(root / dataset.data_root[len('data/') :])
    return DATASETS.build(dataset)


def test_what_it_holds(root):
    dataset = build(root)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [info['img_id'] for info in infos] == ['a/0.jpg', 'b/1.jpg', 'c.jpg']
    assert [info['image_labels'] for info in infos] == [[0], [2], [2]]
    assert [dataset.get_cat_ids(i) for i in range(3)] == [[0], [2], [2]]
    assert [(info.get('width'), info.get('height')) for info in infos] == [
        (64, 48),
        (50, 40),
        (None, None),
    ]
    for info in infos:
        assert Path(info['img_path']) == root / 'img' / info['img_id']
        assert info['ignored_image_labels'] == info['instances'] == []
        assert info['has_boxes'] is False
    assert dataset.metainfo['classes'] == ('cat', 'dog, hound', 'cow')
    assert boxed_images(dataset).tolist() == [False] * 3


def test_samples(root):
    dataset = build(root)
    for i, (label, size) in enumerate((([0], (48, 64)), ([2], (40, 50)), ([2], (20, 30)))):
        sample = dataset[i]['data_samples']
        assert sample.gt_image_labels.tolist() == label
        assert sample.ignored_image_labels.tolist() == []
        assert sample.has_boxes is False and 'gt_instances' not in sample
        assert sample.ori_shape == size
        assert sample.img_id == dataset.get_data_info(i)['img_id']


def test_a_part_of_it(root):
    dataset = build(root, indices=[2, 0])
    assert [dataset[i]['data_samples'].img_id for i in range(2)] == ['c.jpg', 'a/0.jpg']
    assert boxed_images(dataset).tolist() == [False] * 2


def test_an_absolute_folder_of_the_split(root):
    dataset = build(
        root,
        data_root=str(root / 'img'),
        metadata_root=str(root / 'meta'),
        data_prefix=dict(img=''),
    )
    assert len(dataset) == 3
    assert dataset[1]['data_samples'].ori_shape == (40, 50)


def test_a_folder_elsewhere_is_not_below_data_root(root):
    dataset = build(root, metadata_root='s3://bucket/meta', lazy_init=True)
    assert dataset.metadata_root == 's3://bucket/meta'


def test_classes_of_the_config(root):
    other = ('Katze', 'Hund', 'Kuh')
    dataset = build(root, metainfo=dict(classes=other))
    assert dataset.metainfo['classes'] == other
    (root / 'meta/classes.txt').unlink()
    assert build(root, metainfo=dict(classes=list(other))).metainfo['classes'] == other


@pytest.mark.parametrize(
    'classes',
    [('dog, hound', 'cat', 'cow'), ('cat', 'dog, hound'), ('cat', 'dog, hound', 'cow', 'elk')],
)
def test_classes_of_the_config_that_do_not_fit(root, classes):
    with pytest.raises(ValueError, match='same number in the same order'):
        build(root, metainfo=dict(classes=classes))


def test_classes_without_a_name(root):
    (root / 'meta/classes.txt').unlink()
    messages = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    dataset = build(root)
    logger.removeHandler(handler)
    assert dataset.metainfo['classes'] == ('0', '1', '2')
    assert any('named 0 to 2' in text for text in messages)


def test_a_label_beyond_the_classes(root):
    (root / 'meta/classes.txt').write_text('cat\ndog\n')
    with pytest.raises(
        ValueError, match='class_labels.txt gives b/1.jpg the class 2, but there are 2 classes'
    ):
        build(root)
    (root / 'meta/classes.txt').unlink()
    with pytest.raises(ValueError, match='b/1.jpg the class 2'):
        build(root, metainfo=dict(classes=('cat', 'dog')))


@pytest.mark.parametrize('name', ['image_ids.txt', 'class_labels.txt'])
def test_a_missing_file(root, name):
    (root / 'meta' / name).unlink()
    with pytest.raises(FileNotFoundError, match=f'meta/{name}: missing'):
        build(root)


def test_missing_folders(root):
    with pytest.raises(FileNotFoundError, match='none/image_ids.txt: missing'):
        build(root, metadata_root='none')
    with pytest.raises(FileNotFoundError, match='none: missing, the folder'):
        build(root, data_prefix=dict(img='none'))
    with pytest.raises(ValueError, match='data_prefix'):
        build(root, data_prefix=dict())


def test_no_image(root):
    for name in ('image_ids.txt', 'class_labels.txt', 'image_sizes.txt'):
        (root / 'meta' / name).write_text('')
    with pytest.raises(ValueError, match='meta/: image_ids.txt lists no'):
        build(root)


def test_a_missing_image(root):
    (root / 'img/b/1.jpg').unlink()
    with pytest.raises(RuntimeError, match='cannot prepare .*b/1.jpg'):
        build(root)[1]
    with pytest.raises(FileNotFoundError, match='1 of 3 images.*b/1.jpg'):
        build(root, check_files=True)
    write_image(root / 'img/b/1.jpg', (40, 50))
    assert len(build(root, check_files=True)) == 3


def test_a_broken_image(root):
    (root / 'img/c.jpg').write_bytes((root / 'img/c.jpg').read_bytes()[:99])
    with pytest.raises(RuntimeError, match='cannot prepare .*c.jpg'):
        build(root)[2]


def test_pipelines(root):
    with pytest.raises(ValueError, match='CachedMosaic'):
        build(root, pipeline=MOSAIC)
    with pytest.raises(ValueError, match='must end in'):
        build(root, pipeline=PIPELINE[:-1])


def test_a_split_is_read_as_it_was_written(tmp_path):
    there = WSOLMetadata(
        labels={'b/1.jpg': 1, 'a/0.jpg': 0, 'c.jpg': 1},
        sizes={'b/1.jpg': (7, 5), 'a/0.jpg': (9, 8)},
        boxes={
            'a/0.jpg': np.array([[0, 1, 2.5, 3], [4, 4, 4, 4]]),
            'b/1.jpg': np.array([[1 / 3, 0, 1, 10000001]]),
        },
        masks={'b/1.jpg': Masks(['m/1.png', 'm/2.png'], 'm/i.png'), 'a/0.jpg': Masks(['m/3.png'])},
        classes=('cat, tabby', 'Rüde'),
    )
    write_wsol_metadata(tmp_path / 'new' / 'split', there)
    back = read_wsol_metadata(str(tmp_path / 'new' / 'split'))
    assert list(back.labels.items()) == list(there.labels.items())
    assert back.sizes == there.sizes and back.classes == there.classes
    assert back.masks == there.masks
    assert {image: boxes.tolist() for image, boxes in back.boxes.items()} == {
        image: boxes.tolist() for image, boxes in there.boxes.items()
    }
    assert sorted(path.name for path in tmp_path.rglob('*.*')) == [
        'class_labels.txt',
        'classes.txt',
        'image_ids.txt',
        'image_sizes.txt',
        'localization.txt',
        'masks.txt',
    ]


def test_whole_numbers_have_no_point(tmp_path):
    write_wsol_metadata(
        tmp_path, WSOLMetadata({'0.jpg': 0}, {}, {'0.jpg': np.array([[1.0, 2.5, 30, 40]])}, {}, ())
    )
    assert (tmp_path / 'localization.txt').read_bytes() == b'0.jpg,1,2.5,30,40\n'


def test_files_of_another_split_do_not_stay(tmp_path):
    labels = {'0.jpg': 0}
    boxes, masks = {'0.jpg': np.ones((1, 4))}, {'0.jpg': Masks(['0.png'])}
    write_wsol_metadata(tmp_path, WSOLMetadata(labels, {'0.jpg': (3, 2)}, boxes, masks, ('cat',)))
    write_wsol_metadata(tmp_path, WSOLMetadata(labels, {}, {}, masks, ()))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'class_labels.txt',
        'image_ids.txt',
        'localization.txt',
    ]
    assert read_wsol_metadata(str(tmp_path)).masks == masks


@pytest.mark.parametrize(
    'labels, classes, message',
    [({'a,b.jpg': 0}, (), 'a,b.jpg: .* comma'), ({'0.jpg': 0}, ('cat', ' '), 'must not be empty')],
)
def test_what_cannot_be_written(tmp_path, labels, classes, message):
    with pytest.raises(ValueError, match=message):
        write_wsol_metadata(tmp_path / 'out', WSOLMetadata(labels, {}, {}, {}, classes))
    assert not (tmp_path / 'out').exists()


@pytest.fixture
def openimages(tmp_path):
    """OpenImages30k as it is released: no sizes, masks and what to ignore."""
    home = tmp_path / 'OpenImages'
    for split in ('train', 'val', 'test'):
        ids = [f'{split}/0k5j/{i}.jpg' for i in range(2)]
        for i, image in enumerate(ids):
            write_image(home / image, (60, 80), i)
        where = home / 'metadata' / split
        where.mkdir(parents=True)
        (where / 'image_ids.txt').write_text('\n'.join(ids))
        (where / 'class_labels.txt').write_text(
            '\n'.join(f'{image},{9 * i}' for i, image in enumerate(ids))
        )
        if split != 'train':
            (where / 'localization.txt').write_text(
                ''.join(
                    (
                        f'{ids[0]},{split}/0k5j/0_m1.png,{split}/0k5j/0_ignore.png\n',
                        f'{ids[0]},{split}/0k5j/0_m2.png,\n',
                        f'{ids[1]},{split}/0k5j/1_m1.png,\n',
                    )
                )
            )
    return tmp_path


def test_openimages(openimages):
    for loader in ('train', 'val', 'test'):
        dataset = configured('openimages30k', openimages, loader)
        assert [dataset[i]['data_samples'].img_id for i in range(2)] == [
            f'{loader}/0k5j/{i}.jpg' for i in range(2)
        ]
        assert dataset[1]['data_samples'].gt_image_labels.tolist() == [9]
        assert dataset[1]['inputs'].shape == (3, 224, 224)
        assert len(dataset.metainfo['classes']) == 10
    masks = read_wsol_metadata(str(openimages / 'OpenImages/metadata/test')).masks
    assert masks['test/0k5j/0.jpg'] == (
        ['test/0k5j/0_m1.png', 'test/0k5j/0_m2.png'],
        'test/0k5j/0_ignore.png',
    )
    assert masks['test/0k5j/1.jpg'] == (['test/0k5j/1_m1.png'], None)


def test_images_are_read_as_they_are_stored(openimages):
    """Masks lie on the stored pixels, whatever a camera says of its tilt."""
    path = openimages / 'OpenImages/val/0k5j/0.jpg'
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a right angle
    Image.open(path).save(path, exif=exif)
    dataset = configured('openimages30k', openimages, 'val')
    assert dataset[0]['data_samples'].ori_shape == (60, 80)


@pytest.mark.parametrize('name', WSOL)
def test_base_configs(name):
    """What is measured is what is predicted, and each image once."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    roots = []
    for loader, evaluator in (
        (cfg.val_dataloader, cfg.val_evaluator),
        (cfg.test_dataloader, cfg.test_evaluator),
    ):
        dataset = loader.dataset
        assert dataset.type == 'mmgwap.WSOLDataset' and dataset.test_mode
        assert evaluator.type == 'mmgwap.WSOLMetric'
        assert evaluator.metadata_root == dataset.data_root + dataset.metadata_root
        assert ('mask_root' in evaluator) == (name in ('openimages30k', 'digits_single'))
        roots.append(dataset.metadata_root)
        sampler = dict(loader.sampler)
        assert sampler.pop('type') == 'DefaultSampler'
        shown = list(DefaultSampler(range(5), **sampler))
        assert shown == [0, 1, 2, 3, 4] and sampler['round_up'] is False
    train = cfg.train_dataloader
    assert train.dataset.metadata_root == 'metadata/train/'
    assert train.dataset.metadata_root not in roots
    assert train.sampler.shuffle and not train.dataset.get('test_mode')


def test_augmentation_at_test_time_is_refused(root):
    views = [
        dict(type='LoadImageFromFile'),
        dict(
            type='TestTimeAug',
            transforms=[[dict(type='RandomFlip', prob=1.0)], [dict(type='PackDetInputs')]],
        ),
    ]
    with pytest.raises(ValueError, match='--tta.*not supported'):
        build(root, pipeline=views, test_mode=True)
