"""WSOLDataset and the metadata files of the WSOL evaluation."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config
from PIL import Image

from mmgwap.datasets.samplers import boxed_images
from mmgwap.datasets.wsol_metadata import read_wsol_metadata

from .helpers import MOSAIC, PIPELINE, captured_log, infos, write_image

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/_base_/datasets'
SPLIT = dict(
    image_ids='a/0.jpg\nb/1.jpg\nc.jpg\n',
    class_labels='b/1.jpg,2\na/0.jpg,0\nc.jpg,2\n',
    image_sizes='a/0.jpg,64,48\nb/1.jpg,50,40\n',
    classes='cat\ndog, hound\ncow\n',
)


def write_files(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f'{name}.txt').write_text(text)


def write_split(root, labels):
    """Write images of 64 x 48 px and the two files of a training split."""
    for i, image in enumerate(labels):
        write_image(root / 'img' / image, seed=i)
    rows = [f'{image},{label}' for image, label in labels.items()]
    write_files(root / 'meta', dict(image_ids='\n'.join(labels), class_labels='\n'.join(rows)))


@pytest.fixture
def root(tmp_path):
    """Three images of 64 x 48, 50 x 40 and 30 x 20 px."""
    for i, (name, size) in enumerate((('a/0', (48, 64)), ('b/1', (40, 50)), ('c', (20, 30)))):
        write_image(tmp_path / 'img' / f'{name}.jpg', size, i)
    write_files(tmp_path / 'meta', SPLIT)
    return tmp_path


def build(root, **options):
    cfg = dict(type='mmgwap.WSOLDataset', data_root=str(root), metadata_root='meta/')
    return DATASETS.build({**cfg, 'data_prefix': dict(img='img/'), 'pipeline': PIPELINE, **options})


def configured(name, root, loader):
    """Build the data set of a base config with the folder ``root`` instead of data/."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    dataset = cfg[f'{loader}_dataloader'].dataset
    assert dataset.data_root.startswith('data/')
    dataset.data_root = str(root / dataset.data_root[len('data/') :])
    return DATASETS.build(dataset)


def test_samples(root):
    dataset = build(root)
    assert [info['img_id'] for info in infos(dataset)] == ['a/0.jpg', 'b/1.jpg', 'c.jpg']
    sizes = [(info.get('width'), info.get('height')) for info in infos(dataset)]
    assert sizes == [(64, 48), (50, 40), (None, None)]
    assert dataset.metainfo['classes'] == ('cat', 'dog, hound', 'cow')
    assert boxed_images(dataset).tolist() == [False] * 3
    for i, (label, size) in enumerate((([0], (48, 64)), ([2], (40, 50)), ([2], (20, 30)))):
        info, sample = dataset.get_data_info(i), dataset[i]['data_samples']
        assert info['image_labels'] == dataset.get_cat_ids(i) == label
        assert info['ignored_image_labels'] == info['instances'] == []
        assert Path(info['img_path']) == root / 'img' / info['img_id']
        assert sample.gt_image_labels.tolist() == label
        assert sample.ignored_image_labels.tolist() == []
        assert sample.has_boxes is False and 'gt_instances' not in sample
        assert (sample.ori_shape, sample.img_id) == (size, info['img_id'])


def test_indices(root):
    dataset = build(root, indices=[2, 0])
    assert [dataset[i]['data_samples'].img_id for i in range(2)] == ['c.jpg', 'a/0.jpg']
    assert boxed_images(dataset).tolist() == [False] * 2


def test_metadata_root(root):
    absolute = str(root / 'meta')
    prefix = dict(img='')
    dataset = build(root, data_root=str(root / 'img'), metadata_root=absolute, data_prefix=prefix)
    assert len(dataset) == 3 and dataset[1]['data_samples'].ori_shape == (40, 50)
    dataset = build(root, metadata_root='s3://bucket/meta', lazy_init=True)
    assert dataset.metadata_root == 's3://bucket/meta'


def test_class_names(root):
    other = ('Katze', 'Hund', 'Kuh')
    assert build(root, metainfo=dict(classes=other)).metainfo['classes'] == other
    (root / 'meta/classes.txt').unlink()
    assert build(root, metainfo=dict(classes=list(other))).metainfo['classes'] == other
    with captured_log(logging.INFO) as messages:
        assert build(root).metainfo['classes'] == ('0', '1', '2')
    assert any('named 0 to 2' in text for text in messages)


@pytest.mark.parametrize(
    'listed, classes, message',
    [
        (SPLIT['classes'], ('dog, hound', 'cat', 'cow'), 'same order'),
        (SPLIT['classes'], ('cat', 'dog, hound'), 'same number'),
        ('cat\ndog\n', (), 'b/1.jpg the class 2, .* 2 classes'),
        ('', ('cat', 'dog'), 'b/1.jpg the class 2, .* 2 classes'),
    ],
)
def test_wrong_class_names(root, listed, classes, message):
    (root / 'meta/classes.txt').write_text(listed)
    with pytest.raises(ValueError, match=message):
        build(root, metainfo=dict(classes=classes))


def test_missing_files(root):
    (root / 'img/b/1.jpg').unlink()
    with pytest.raises(RuntimeError, match='cannot prepare .*b/1.jpg'):
        build(root)[1]
    with pytest.raises(FileNotFoundError, match='1 of 3 images.*b/1.jpg'):
        build(root, check_files=True)
    write_image(root / 'img/b/1.jpg', (40, 50))
    assert len(build(root, check_files=True)) == 3
    with pytest.raises(FileNotFoundError, match='none/image_ids.txt: missing'):
        build(root, metadata_root='none')
    with pytest.raises(FileNotFoundError, match='none: missing'):
        build(root, data_prefix=dict(img='none'))
    with pytest.raises(ValueError, match='data_prefix'):
        build(root, data_prefix=dict())
    write_files(root / 'meta', dict(image_ids='', class_labels='', image_sizes=''))
    with pytest.raises(ValueError, match='meta/: image_ids.txt lists no'):
        build(root)


VIEWS = dict(type='TestTimeAug', transforms=[[dict(type='RandomFlip', prob=1.0)], [PIPELINE[-1]]])


@pytest.mark.parametrize(
    'pipeline, message',
    [
        (MOSAIC, 'CachedMosaic'),
        (PIPELINE[:-1], 'must end in'),
        ([PIPELINE[0], VIEWS], '--tta.*not supported'),
    ],
)
def test_unsupported_pipelines(root, pipeline, message):
    with pytest.raises(ValueError, match=message):
        build(root, pipeline=pipeline, test_mode=True)


@pytest.fixture
def openimages(tmp_path):
    """OpenImages30k as released, with masks and ignore masks, without sizes."""
    home = tmp_path / 'OpenImages'
    for split in ('train', 'val', 'test'):
        ids = [f'{split}/0k5j/{i}.jpg' for i in range(2)]
        for i, image in enumerate(ids):
            write_image(home / image, (60, 80), i)
        files = dict(image_ids='\n'.join(ids), class_labels=f'{ids[0]},0\n{ids[1]},9\n')
        if split != 'train':
            masks = '0.jpg,0_m1.png,0_ignore.png\n0.jpg,0_m2.png,\n1.jpg,1_m1.png,\n'
            files['localization'] = re.sub(r'(\d\w*\.)', rf'{split}/0k5j/\1', masks)
        write_files(home / 'metadata' / split, files)
    return tmp_path


def test_openimages(openimages):
    for loader in ('train', 'val', 'test'):
        dataset = configured('openimages30k', openimages, loader)
        found = [dataset[i]['data_samples'].img_id for i in range(2)]
        assert found == [f'{loader}/0k5j/{i}.jpg' for i in range(2)]
        assert dataset[1]['data_samples'].gt_image_labels.tolist() == [9]
        assert dataset[1]['inputs'].shape == (3, 224, 224)
        assert len(dataset.metainfo['classes']) == 10
    masks = read_wsol_metadata(str(openimages / 'OpenImages/metadata/test')).masks
    names = [f'test/0k5j/0_{name}.png' for name in ('m1', 'm2', 'ignore')]
    assert masks['test/0k5j/0.jpg'] == (names[:2], names[2])


def test_ignore_the_exif_orientation(openimages):
    """Keep the stored pixels, which the masks refer to."""
    path = openimages / 'OpenImages/val/0k5j/0.jpg'
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.open(path).save(path, exif=exif)
    dataset = configured('openimages30k', openimages, 'val')
    assert dataset[0]['data_samples'].ori_shape == (60, 80)


FILES = dict(
    image_ids='b/2.jpg\na/1.jpg\n',
    class_labels='a/1.jpg,4\nb/2.jpg,0\n',
    image_sizes='b/2.jpg,500,375\na/1.jpg,60,40\n',
    localization='a/1.jpg,1,2,30,40\nb/2.jpg,0.5,0,9,9\na/1.jpg,5,5,5,5\n',
    masks='a/1.jpg,m/1_0.png,m/1_i.png\na/1.jpg,m/1_1.png,\nb/2.jpg,m/2.png,\n',
    classes='cat\nbird, flying\ndog\nox\nhen\n',
)


def read(root, **changes):
    files = {name: text for name, text in {**FILES, **changes}.items() if text is not None}
    write_files(root, files)
    return read_wsol_metadata(str(root))


def test_read_metadata(tmp_path):
    found = read(tmp_path)
    assert list(found.labels.items()) == [('b/2.jpg', 0), ('a/1.jpg', 4)]
    assert found.sizes == {'a/1.jpg': (60, 40), 'b/2.jpg': (500, 375)}
    assert found.boxes['a/1.jpg'].tolist() == [[1, 2, 30, 40], [5, 5, 5, 5]]
    assert found.boxes['b/2.jpg'].tolist() == [[0.5, 0, 9, 9]]
    assert found.boxes['b/2.jpg'].dtype == np.float64
    assert found.masks['a/1.jpg'] == (['m/1_0.png', 'm/1_1.png'], 'm/1_i.png')
    assert found.masks['b/2.jpg'] == (['m/2.png'], None)
    assert found.classes == ('cat', 'bird, flying', 'dog', 'ox', 'hen')


def test_read_variants_of_metadata(tmp_path):
    optional = dict.fromkeys(('image_sizes', 'localization', 'masks', 'classes'))
    found = read(tmp_path / 'train', **optional)
    assert found.labels == {'b/2.jpg': 0, 'a/1.jpg': 4}
    assert found[1:] == ({}, {}, {}, ())
    found = read(tmp_path / 'masks', localization=FILES['masks'], masks=None)
    assert not found.boxes and found.masks['a/1.jpg'].ignore == 'm/1_i.png'
    found = read(tmp_path / 'blanks', class_labels='\r\n a/1.jpg , 4 \r\nb/2.jpg,0\r\n\n')
    assert found.labels == {'b/2.jpg': 0, 'a/1.jpg': 4}
    masks = 'a/1.jpg,m.png,\na/1.jpg,n.png,j.png\na/1.jpg,o.png,j.png\n'
    found = read(tmp_path / 'ignore', masks=masks)
    assert found.masks['a/1.jpg'] == (['m.png', 'n.png', 'o.png'], 'j.png')


@pytest.mark.parametrize('name', ['image_ids', 'class_labels'])
def test_required_files(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f'{name}.txt: missing'):
        read(tmp_path, **{name: None})


@pytest.mark.parametrize(
    'name, text, message',
    [
        ('class_labels', 'a/1.jpg,4\n', 'no class for 1 images.*b/2.jpg'),
        ('class_labels', 'a/1.jpg,4\na/1.jpg,4\n', 'line 2: a/1.jpg is listed twice'),
        ('class_labels', 'a/1.jpg,-1\n', 'line 1: .* 0 to 999999, got -1'),
        ('class_labels', f'a/1.jpg,{10**30}\n', 'line 1: .* to 999999'),
        ('image_sizes', 'a/1.jpg,0,4\n', 'line 1: .* from 1 to .* got 0,4'),
        ('class_labels', '\na/9.jpg,1\n', 'line 2: a/9.jpg is not in image_ids'),
        ('image_sizes', 'a/1.jpg,60\n', 'line 1: .* 3 fields'),
        ('image_sizes', 'a/1.jpg,60,4.5\n', 'line 1: .* numbers, got 60,4.5'),
        ('localization', 'a/1.jpg,1,2,3\n', 'line 1: .* 3 or 5 fields'),
        ('localization', 'a/1.jpg,9,2,3,4\n', 'line 1: 9,2,3,4 is not a box'),
        ('localization', 'a/1.jpg,1,2,nan,4\n', 'line 1: 1,2,nan,4 is not a box'),
        ('localization', 'a/1.jpg,1,2,1e308,4\n', 'line 1: 1,2,1e308,4 is not a box'),
        ('masks', 'a/1.jpg,m.png,i.png\na/1.jpg,n.png,j.png\n', 'line 2: .* j.png .* i.png'),
        ('masks', 'a/1.jpg,,i.png\n', 'line 1: .* path of a mask'),
        ('image_ids', 'b/2.jpg\na/1.jpg\nb/2.jpg\n', 'line 3: b/2.jpg is listed twice'),
    ],
)
def test_name_the_fault_of_metadata(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=f'{name}.txt.*{message}'):
        read(tmp_path, **{name: text})
