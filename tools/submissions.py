"""Turn a config that tests on annotated images into one that tests for an evaluation server."""

import re
from pathlib import Path
from posixpath import dirname, join

from mmdet.datasets import CocoDataset, VOCDataset
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.fileio import exists
from mmengine.registry import init_default_scope
from mmengine.utils import is_abs

from mmgwap.evaluation.functional import SubmissionError

TEST_DEV = 'image_info_test-dev2017.json'
YEARS = (2007, 2012)


def coco_test_dev(cfg: Config, out: Path, algorithm: str) -> None:
    """Change a config to test on COCO test-dev and to write the file for its server.

    The image list is expected in the folder of the annotations that the config tests on, and
    ``test2017/`` beside the folder of the images.

    Args:
        cfg (Config): config with a COCO test set; changed in place.
        out (Path): output folder.
        algorithm (str): name of the algorithm at the server.

    Raises:
        SubmissionError: if the test set is not a COCO data set or the image list is missing.
    """
    dataset = _find_test_set(cfg, CocoDataset, 'COCO')
    dataset.ann_file = join(dirname(dataset.get('ann_file', '')), TEST_DEV)
    images = dataset.get('data_prefix', {}).get('img', '').rstrip('/')
    dataset.data_prefix = dict(img=join(dirname(images), 'test2017/'))
    cfg.test_evaluator = dict(
        type='mmgwap.CocoSubmissionMetric',
        ann_file=_find_image_list(dataset, 'https://cocodataset.org/#download'),
        backend_args=dataset.get('backend_args'),
        out_dir=str(out),
        algorithm=algorithm,
    )
    cfg.work_dir = str(out)


def voc_results(cfg: Config, out: Path, year: int) -> None:
    """Change a config to test on a VOC test set and to write the files for its server.

    Args:
        cfg (Config): config with a VOC test set; changed in place.
        out (Path): output folder.
        year (int): an element of ``YEARS``.

    Raises:
        SubmissionError: if the test set is not a VOC data set or the image list is missing.
    """
    dataset = _find_test_set(cfg, VOCDataset, 'VOC')
    # The config may test on either year: .../VOC2007/ImageSets/Main/test.txt.
    root = re.sub('VOC20(07|12)/.*$', '', dataset.get('ann_file', ''))
    dataset.type = 'mmgwap.UnannotatedVOCDataset'
    dataset.ann_file = join(root, f'VOC{year}/ImageSets/Main/test.txt')
    dataset.data_prefix = dict(sub_data_root=join(root, f'VOC{year}/'))
    cfg.test_evaluator = dict(
        type='mmgwap.VOCSubmissionMetric',
        ann_file=_find_image_list(dataset, 'http://host.robots.ox.ac.uk/pascal/VOC/'),
        backend_args=dataset.get('backend_args'),
        out_dir=str(out),
        year=year,
    )
    cfg.work_dir = str(out)


def algorithm_name(config: Path) -> str:
    """Derive the algorithm's name at the server from the file name of a config.

    >>> algorithm_name(Path('configs/rfcn_r50_coco.py'))
    'rfcn-r50-coco'
    """
    return re.sub('[^A-Za-z0-9.]+', '-', config.stem).strip('-')


def _find_test_set(cfg: Config, base_class: type, name: str) -> ConfigDict:
    """Return the config of the test set inside of any dataset wrappers."""
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    found = dataset.type if isinstance(dataset.type, type) else DATASETS.get(dataset.type)
    if found is None or not issubclass(found, base_class):
        raise SubmissionError(
            f'{cfg.filename}: the data set of test_dataloader must be a {name} data set '
            f'({base_class.__name__} or a subclass), got {dataset.type}'
        )
    dataset.test_mode = True
    return dataset


def _find_image_list(dataset: ConfigDict, source: str) -> str:
    """Return the path of the list of test images, which has to exist."""
    path = dataset.ann_file
    if not is_abs(path):
        path = join(dataset.get('data_root') or '', path)
    if not exists(path, backend_args=dataset.get('backend_args')):
        raise SubmissionError(f'{path}: missing list of the test images; download it from {source}')
    return path
