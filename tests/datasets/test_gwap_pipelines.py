"""The data side of the configs: samples of both kinds, in batches."""

from pathlib import Path

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import DefaultSampler

from mmgwap.registry import DATA_SAMPLERS

from .test_partial_box import coco

register_all_modules()
FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'gwap'
CONFIGS = sorted(
    path
    for path in FOLDER.glob('*.py')
    if Config.fromfile(path).model.type == 'mmgwap.MultiTaskDetector'
)
ROWS = [[([2 + i, 4, 50 + i, 40], 'cat')] for i in range(40)]


def replaced(dataset, root):
    """A config's data set with ours for the one on disk."""
    if 'datasets' in dataset:
        return dict(dataset, datasets=[replaced(one, root) for one in dataset.datasets])
    if 'dataset' in dataset:
        return dict(dataset, dataset=replaced(dataset.dataset, root))
    return coco(root, ROWS, pipeline=dataset.pipeline)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_batch_of_both_kinds(path, tmp_path):
    loader = Config.fromfile(path).train_dataloader
    dataset = replaced(loader.dataset, tmp_path)
    if dataset['type'] == 'mmgwap.PartialBoxDataset':
        dataset['percent'] = 50
    dataset = DATASETS.build(dataset)
    np.random.seed(0)
    sampler = DATA_SAMPLERS.build(
        dict(
            loader.batch_sampler, batch_size=3, num_boxed=2, sampler=DefaultSampler(dataset, seed=0)
        )
    )
    batch = next(iter(sampler))
    samples = [dataset[i]['data_samples'] for i in batch]
    assert all(sample.get('has_boxes', True) for sample in samples[:2])
    assert not samples[-1].has_boxes
    assert 'gt_instances' not in samples[-1]
    assert samples[-1].gt_image_labels.tolist() == [0]
