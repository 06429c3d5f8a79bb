"""Configs that test a model for an evaluation server.

They are ordinary configs of mmdet's tools/test.py, made from one that tests on
annotated images.
"""

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
    """Let a config test on COCO's test-dev and write what its server takes.

    The list of the images is looked for beside the annotations of the test
    set that the config has, and ``test2017/`` beside its images.

    Args:
        cfg (Config): with a COCO data set to test on; changed in place.
        out (Path): gets the files.
        algorithm (str): its name at the server.

    Raises:
        SubmissionError: if the data set is another one, or the list is
            missing.
    """
    dataset = _test_set(cfg, CocoDataset, 'COCO')
    dataset.ann_file = join(dirname(dataset.get('ann_file', '')), TEST_DEV)
    images = dataset.get('data_prefix', {}).get('img', '').rstrip('/')
    dataset.data_prefix = dict(img=join(dirname(images), 'test2017/'))
    cfg.test_evaluator = dict(
        type='mmgwap.CocoSubmissionMetric',
        ann_file=_find(dataset, 'https://cocodataset.org/#download'),
        backend_args=dataset.get('backend_args'),
        out_dir=str(out),
        algorithm=algorithm,
    )
    cfg.work_dir = str(out)


def voc_results(cfg: Config, out: Path, year: int) -> None:
    """Let a config test on a year of VOC and write what its server takes.

    Args:
        cfg (Config): with a VOC data set to test on; changed in place.
        out (Path): gets the files.
        year (int): one of ``YEARS``.

    Raises:
        SubmissionError: if the data set is another one, or the list of the
            images is missing.
    """
    dataset = _test_set(cfg, VOCDataset, 'VOC')
    # Of either year, as VOC2007/ImageSets/Main/test.txt.
    root = re.sub('VOC20(07|12)/.*$', '', dataset.get('ann_file', ''))
    dataset.type = 'mmgwap.UnannotatedVOCDataset'
    dataset.ann_file = join(root, f'VOC{year}/ImageSets/Main/test.txt')
    dataset.data_prefix = dict(sub_data_root=join(root, f'VOC{year}/'))
    cfg.test_evaluator = dict(
        type='mmgwap.VOCSubmissionMetric',
        ann_file=_find(dataset, 'http://host.robots.ox.ac.uk/pascal/VOC/'),
        backend_args=dataset.get('backend_args'),
        out_dir=str(out),
        year=year,
    )
    cfg.work_dir = str(out)


def algorithm_of(config: Path) -> str:
    """A name for the server, from that of the config."""
    return re.sub('[^A-Za-z0-9.]+', '-', config.stem).strip('-')


def _test_set(cfg: Config, kind: type, name: str) -> ConfigDict:
    """The data set to test on, within any wrappers."""
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    found = dataset.type if isinstance(dataset.type, type) else DATASETS.get(dataset.type)
    if found is None or not issubclass(found, kind):
        raise SubmissionError(
            f'{cfg.filename}: test_dataloader has the data set {dataset.type};'
            f' this needs one of {name}, {kind.__name__}'
        )
    dataset.test_mode = True
    return dataset


def _find(dataset: ConfigDict, source: str) -> str:
    """Path of the list of the test set, which has to be there."""
    path = dataset.ann_file
    if not is_abs(path):
        path = join(dataset.get('data_root') or '', path)
    if not exists(path, backend_args=dataset.get('backend_args')):
        raise SubmissionError(
            f'{path}: missing, the list of the images to test on; get it from {source}'
        )
    return path
