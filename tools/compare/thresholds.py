"""GT-known of a trained classifier, its threshold chosen on training images."""

import torch
from mmdet.registry import DATASETS, METRICS
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate

COUNT = 500  # training images to choose on


def tuned_gt_known(model: torch.nn.Module, cfg: Config) -> dict:
    """Choose a threshold of the maps, and measure the boxes that it gives.

    Args:
        model (nn.Module): in eval mode, giving maps.
        cfg (Config): with the data sets of both.

    Returns:
        dict: ``threshold``, the best for the largest contour on the first
        training images; ``gt_known`` on the validation set, in percent, with
        that.
    """
    train, val = (cfg[f'{name}_dataloader'].dataset for name in ('train', 'val'))
    train = ConfigDict(train, pipeline=val.pipeline, test_mode=True, indices=COUNT)
    threshold = evaluate(model, train)['max_box_acc_threshold']
    found = evaluate(model, val, box_threshold=threshold)
    return dict(threshold=threshold, gt_known=found['gt_known'])


def evaluate(model: torch.nn.Module, dataset: ConfigDict, **options) -> dict:
    """``WSOLMetric`` of a model on a data set of its kind."""
    dataset = DATASETS.build(dataset)
    metric = METRICS.build(
        dict(type='mmgwap.WSOLMetric', metadata_root=dataset.metadata_root, **options)
    )
    metric.dataset_meta = dataset.metainfo
    for i in range(len(dataset)):
        data = pseudo_collate([dataset[i]])
        with torch.no_grad():
            (sample,) = model.test_step(data)
        metric.process(data, [sample.to_dict()])
    return {name.split('/')[-1]: value for name, value in metric.evaluate(len(dataset)).items()}
