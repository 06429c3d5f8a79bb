"""Tiny detectors with an image-level head, and batches for them."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules

from mmgwap.structures import PartialDataSample
from tests.toy_data import DETECTORS, LAST_CHANNELS, tiny_detector

register_all_modules()


@pytest.fixture(params=DETECTORS)
def name(request):
    """Name of a tiny detector."""
    return request.param


def multi_task(name: str, **kwargs) -> dict:
    """Return the config of a tiny detector with an image-level head."""
    head = dict(
        type='mmgwap.ImageClsHead',
        num_classes=4,
        source='backbone',
        in_channels=LAST_CHANNELS[name],
        **kwargs.pop('head', {}),
    )
    return dict(
        type='mmgwap.MultiTaskDetector', cls_head=head, detector=tiny_detector(name), **kwargs
    )


def teacher_of(detector: dict, **kwargs) -> dict:
    """Return the config of a teacher for which each present class has a pseudo box."""
    return dict(dict(type='mmgwap.LabelGuidedTeacher', best_score=0.0, detector=detector), **kwargs)


def finding(cfg: dict) -> dict:
    """Let an untrained detector find boxes, whatever their scores are."""
    detector = cfg.get('detector', cfg)
    detector.test_cfg.get('rcnn', detector.test_cfg).score_thr = 0.0
    if 'exp_on_reg' in detector.get('bbox_head', ()):
        detector.bbox_head.exp_on_reg = True  # the boxes of random weights are not empty
    return cfg


def build(cfg: dict, seed: int = 0) -> torch.nn.Module:
    """Build a model with seeded weights, in training mode."""
    torch.manual_seed(seed)
    model = MODELS.build(cfg)
    model.init_weights()
    return model.train()


def batch(boxed: str, seed: int = 0) -> dict:
    """Make a batch of images of 128 x 128, one for each character of ``boxed``.

    'x': boxes and labels; '.': labels only; '?': all labels unknown.
    """
    data = demo_mm_inputs(
        len(boxed), [[3, 128, 128]] * len(boxed), num_items=[2] * len(boxed), num_classes=4
    )
    generator = torch.Generator().manual_seed(seed)
    for i, kind in enumerate(boxed):
        data['inputs'][i] = torch.randint(
            0, 256, (3, 128, 128), generator=generator, dtype=torch.uint8
        )
        plain = data['data_samples'][i]
        sample = PartialDataSample(
            metainfo=dict(
                plain.metainfo,
                has_boxes=kind == 'x',
                img_path=f'{i}.jpg',
                homography_matrix=np.eye(3, dtype=np.float32),
            )
        )
        sample.gt_image_labels = torch.tensor([i % 4])
        sample.ignored_image_labels = torch.tensor([], dtype=torch.int64)
        if kind == 'x':
            corner = torch.randint(0, 60, (2, 2), generator=generator).float()
            plain.gt_instances.bboxes[:] = torch.cat([corner, corner + 50], dim=1)
            sample.gt_instances = plain.gt_instances
            sample.ignored_instances = plain.ignored_instances
            sample.gt_image_labels = plain.gt_instances.labels.unique()
        elif kind == '?':
            sample.gt_image_labels = torch.tensor([], dtype=torch.int64)
            sample.ignored_image_labels = torch.arange(4)
        data['data_samples'][i] = sample
    return data


def losses(model: torch.nn.Module, data: dict, seed: int = 1) -> dict:
    """Return the losses of a batch, with a seed for the random sampling of boxes."""
    torch.manual_seed(seed)
    return model(**model.data_preprocessor(data, True), mode='loss')
