"""tools/test.py writes submissions for the servers of COCO and VOC."""

import json
import runpy
import sys
import tarfile
from zipfile import ZipFile

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import init_default_scope

from tests.toy_data import tiny_detector, tiny_rfcn, write_coco, write_voc
from tools.submissions import algorithm_name, coco_test_dev, voc_results

COCO_CONFIG = 'rfcn/rfcn_r50_8xb1-120k_coco.py'
VOC_CONFIG = 'rfcn/rfcn_r50_1xb2-110k_voc0712.py'
GWAP_CONFIG = 'gwap/rfcn_r50_gwap_8xb2-120k_coco-p10.py'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Both data sets; test-dev's images are those of val2017."""
    folder = tmp_path_factory.mktemp('data')
    root = write_coco(folder, train=0, val=9, test=0)
    content = json.loads((root / 'annotations/instances_val2017.json').read_text())
    del content['annotations']
    (root / 'annotations/image_info_test-dev2017.json').write_text(json.dumps(content))
    (root / 'test2017').symlink_to(root / 'val2017')
    write_voc(folder, trainval2007=0, test2007=6, trainval2012=0, test2012=3)
    return folder


@pytest.fixture(scope='module')
def small(repo, data, tmp_path_factory):
    """Write a config with another model, and a checkpoint of it."""
    folder = tmp_path_factory.mktemp('configs')

    def write(config, name, model, head_channels=None):
        cfg = get_config(config) if ':' in config else Config.fromfile(repo / 'configs' / config)
        init_default_scope('mmdet')
        torch.manual_seed(0)
        if head_channels:
            cfg.model.update(detector=model)
            cfg.model.cls_head.in_channels = head_channels
        else:
            cfg.model = model
        for loader in (cfg.val_dataloader, cfg.test_dataloader):
            loader.update(num_workers=0, persistent_workers=False)
            loader.dataset.data_root = str(data / loader.dataset.data_root[5:])
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            if 'ann_file' in evaluator:
                evaluator.ann_file = str(data / evaluator.ann_file[5:])
        cfg.dump(folder / f'{name}.py')
        weights = MODELS.build(cfg.model).state_dict()
        torch.save(dict(state_dict=weights, meta=dict()), folder / f'{name}.pth')
        return folder / f'{name}.py', folder / f'{name}.pth'

    return write


def model_of(num_classes):
    model = tiny_rfcn(num_classes)
    model.test_cfg.rcnn.max_per_img = 150
    model.test_cfg.rpn.update(max_per_img=60, nms_pre=200)
    return model


@pytest.fixture
def here(repo, monkeypatch):
    """Run tools/test.py in this process."""

    def run(*command):
        monkeypatch.setenv('LOCAL_RANK', '0')
        monkeypatch.setattr(sys, 'argv', ['test.py', *map(str, command)])
        monkeypatch.syspath_prepend(repo / 'tools')
        runpy.run_path(str(repo / 'tools' / 'test.py'), run_name='__main__')

    return run


def read_zip(path):
    with ZipFile(path) as archive:
        (name,) = archive.namelist()
        assert name == f'{path.stem}.json'
        content = archive.read(name)
    assert content == path.with_suffix('.json').read_bytes()
    return json.loads(content)


def test_coco_test_dev(small, data, here, tmp_path):
    config, checkpoint = small(COCO_CONFIG, 'coco_v1.5', model_of(80))
    here('--coco-test-dev', '--out', tmp_path, config, checkpoint)
    results = read_zip(tmp_path / 'detections_test-dev2017_coco-v1.5_results.zip')
    listed = json.loads((data / 'coco/annotations/image_info_test-dev2017.json').read_text())
    assert {entry['image_id'] for entry in results} == {image['id'] for image in listed['images']}
    assert len(results) == 900
    # The written config repeats the test with mmdet's tool.
    cfg = Config.fromfile(tmp_path / 'coco_v1.5_test-dev.py')
    assert cfg.test_dataloader.dataset.data_prefix.img == 'test2017/'
    assert cfg.test_evaluator.type == 'mmgwap.CocoSubmissionMetric'


@pytest.mark.slow
def test_two_processes(run_script, small, tmp_path):
    """Test nine images in batches of two, so that each process repeats some."""
    options = '--coco-test-dev --alg two --cfg-options test_dataloader.batch_size=2'.split()
    config, checkpoint = small(GWAP_CONFIG, 'gwap', model_of(80), 64)
    run_script('dist_test.sh', config, checkpoint, 2, '--out', tmp_path / 'out', *options)
    results = read_zip(tmp_path / 'out' / 'detections_test-dev2017_two_results.zip')
    assert len({entry['image_id'] for entry in results}) == 9
    assert len(results) == 900
    assert (tmp_path / 'out' / 'gwap_test-dev.py').is_file()


def test_mmdet_config_with_augmentation(small, here, tmp_path):
    model = tiny_detector('faster_rcnn', 80)
    model.test_cfg.rcnn.score_thr = 0
    model.test_cfg.rpn.max_per_img = 20
    config, checkpoint = small('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'faster', model)
    options = '--coco-test-dev --tta --cfg-options'.split()
    options.append('test_dataloader.dataset.pipeline.1.scale=(200,120)')
    here(config, checkpoint, '--out', tmp_path, *options)
    results = read_zip(tmp_path / 'detections_test-dev2017_faster_results.zip')
    assert len({entry['image_id'] for entry in results}) == 9


@pytest.mark.parametrize('options, year, images', [([], 2007, 6), (['2012'], 2012, 3)])
def test_voc(small, data, here, tmp_path, options, year, images):
    config, checkpoint = small(VOC_CONFIG, 'voc', model_of(20))
    here(config, checkpoint, '--voc-results', *options, '--out', tmp_path)
    listed = (data / f'VOCdevkit/VOC{year}/ImageSets/Main/test.txt').read_text().split()
    found = set()
    with tarfile.open(tmp_path / f'results_VOC{year}.tar.gz') as archive:
        members = [member for member in archive if member.isfile()]
        assert len(members) == 20
        for member in members:
            assert member.name.startswith(f'results/VOC{year}/Main/comp4_det_test_')
            text = archive.extractfile(member).read()
            assert text == (tmp_path / member.name).read_bytes()
            found |= {line.split()[0] for line in text.decode().splitlines()}
    assert found == set(listed) and len(listed) == images


@pytest.mark.parametrize(
    'options, message',
    [
        ('--coco-test-dev --alg a_b', 'letters, digits'),
        (
            '--coco-test-dev --cfg-options test_dataloader.dataset.data_root=none/',
            '^none/annotations/image_info_test-dev2017.json: missing',
        ),
        (
            '--coco-test-dev --cfg-options test_dataloader.dataset.indices=[0,1,2]',
            '6 of its 9 images were not tested',
        ),
        ('--voc-results', 'VOCDataset.*got .*CheckedCocoDataset'),
    ],
)
def test_report_errors_in_one_line(small, here, tmp_path, options, message):
    config, checkpoint = small(COCO_CONFIG, 'coco', model_of(80))
    with pytest.raises(SystemExit, match=message) as error:
        here(config, checkpoint, '--out', tmp_path, *options.split())
    assert '\n' not in error.value.code
    assert not list(tmp_path.glob('*.zip'))


@pytest.mark.parametrize(
    'options, message',
    [
        ('--coco-test-dev', 'required: --out'),
        ('--coco-test-dev --voc-results --out x', 'not allowed with'),
        ('--voc-results 2010 --out x', 'invalid choice'),
        ('--voc-results --alg a --out x', '--alg'),
        (f'--coco-test-dev --out {__file__}', 'got a file'),
        ('--alg a', 'unrecognized arguments: --alg'),
    ],
)
def test_options_that_do_not_fit(here, capsys, options, message):
    with pytest.raises(SystemExit):
        here('c.py', 'c.pth', *options.split())
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_help(here, capsys):
    with pytest.raises(SystemExit):
        here('--help')
    text = capsys.readouterr().out
    assert '--coco-test-dev' in text and '--launcher' in text


def test_find_folders_beside_those_of_the_config(data, tmp_path):
    root = data / 'coco'
    dataset = dict(type='CocoDataset', data_prefix=dict(img=f'{root}/val2017'))
    dataset['ann_file'] = str(root / 'annotations/instances_val2017.json')
    cfg = Config(dict(test_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dataset))))
    coco_test_dev(cfg, tmp_path, 'a')
    inner = cfg.test_dataloader.dataset.dataset
    assert inner.ann_file == f'{root}/annotations/image_info_test-dev2017.json'
    assert inner.ann_file == cfg.test_evaluator.ann_file
    assert inner.data_prefix.img == f'{root}/test2017/' and inner.test_mode

    home = f'{data}/VOCdevkit/VOC2012/'
    dataset = dict(type='VOCDataset', data_prefix=dict(sub_data_root=home))
    dataset['ann_file'] = f'{home}ImageSets/Main/val.txt'
    cfg = Config(dict(test_dataloader=dict(dataset=dataset)))
    voc_results(cfg, tmp_path, 2007)
    inner, home = cfg.test_dataloader.dataset, home.replace('2012', '2007')
    assert inner.ann_file == cfg.test_evaluator.ann_file == f'{home}ImageSets/Main/test.txt'
    assert inner.data_prefix.sub_data_root == home


def test_algorithm_names(tmp_path):
    assert algorithm_name(tmp_path / 'rfcn_r50_8xb1-120k_coco.py') == 'rfcn-r50-8xb1-120k-coco'
    assert algorithm_name(tmp_path / '_v1.5_ä.py') == 'v1.5'
