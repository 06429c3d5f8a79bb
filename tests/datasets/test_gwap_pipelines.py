"""Data pipelines of the GWAP configs: batches of images with and without boxes."""

from pathlib import Path

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import DefaultSampler

from mmgwap.registry import DATA_SAMPLERS

from .helpers import coco

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'gwap'
CONFIGS = sorted(
    path
    for path in FOLDER.glob('*.py')
    if Config.fromfile(path).model.type == 'mmgwap.MultiTaskDetector'
)
BOXES = [[([2 + i, 4, 50 + i, 40], 'cat')] for i in range(40)]


def with_small_data(dataset, root):
    """Replace the data set inside of the wrappers of a config."""
    if 'datasets' in dataset:
        return dict(dataset, datasets=[with_small_data(part, root) for part in dataset.datasets])
    if 'dataset' in dataset:
        return dict(dataset, dataset=with_small_data(dataset.dataset, root))
    return coco(root, BOXES, pipeline=dataset.pipeline)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_batches_of_both_kinds(path, tmp_path):
    loader = Config.fromfile(path).train_dataloader
    dataset = with_small_data(loader.dataset, tmp_path)
    if dataset['type'] == 'mmgwap.PartialBoxDataset':
        dataset['percent'] = 50
    dataset = DATASETS.build(dataset)
    np.random.seed(0)
    options = dict(batch_size=3, num_boxed=2, sampler=DefaultSampler(dataset, seed=0))
    sampler = DATA_SAMPLERS.build(dict(loader.batch_sampler, **options))
    samples = [dataset[i]['data_samples'] for i in next(iter(sampler))]
    assert all(sample.get('has_boxes', True) for sample in samples[:2])
    assert not samples[-1].has_boxes
    assert 'gt_instances' not in samples[-1]
    assert samples[-1].gt_image_labels.tolist() == [0]
