"""Test-time augmentation that keeps image-level scores."""

import torch
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample

from mmgwap.registry import MODELS


@MODELS.register_module()
class MultiTaskTTAModel(DetTTAModel):
    """mmdet's ``DetTTAModel``, for detectors with an image-level head as well.

    Image-level scores are averaged over the views.  Maps are not merged: the
    views differ in size and direction.
    """

    def _merge_single_sample(self, data_samples: list[DetDataSample]) -> DetDataSample:
        merged = super()._merge_single_sample(data_samples)
        # mmdet's merged sample is the first view's, with its predictions.
        if 'pred_image_scores' in data_samples[0]:
            merged.pred_image_scores = torch.stack(
                [view.pred_image_scores for view in data_samples]
            ).mean(dim=0)
            merged.pop('pred_image_maps', None)
        return merged
